"""The LightningModule of masked pretraining.

It masks on the device, computes the loss and holds the metrics. `plan` says how to mask and is set
by `cmgems.callbacks.CurriculumCallback`; other callbacks log the metrics and save the state.
"""

import math
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from cmgems.config.encoders import max_positions
from cmgems.config.schema import Experiment
from cmgems.curriculum.schedule import effective_span_width, max_token_fraction
from cmgems.data_modules.windows import WindowBatch
from cmgems.errors import RunFailed
from cmgems.masking.masker import DEFAULTS, Masker, MaskingPlan
from cmgems.masking.packing import (
    ALL_MASKED,
    BERT,
    NUM_LENGTH_BUCKETS,
    PackedShape,
    PackedShapePolicy,
)
from cmgems.models.build import build_model
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.models.layouts import SequenceLayout
from cmgems.tokenization.base import Tokenization
from cmgems.training.distributed import full_tensor, is_sharded, shard
from cmgems.training.loop_progress import renumber_progress
from cmgems.training.metrics import (
    HiddenBaseValues,
    MaskedLMOutput,
    MaskedLMValues,
    PretrainingMetrics,
    masked_lm_loss,
)
from cmgems.training.optim import build_optimizer, rate_factor
from cmgems.training.repeat_weights import repeat_weights, weighted_mean
from cmgems.utils.kernels import use_cpu_kernels
from cmgems.utils.rng import derive_key

# Which tokens these mask does not depend on content, so runs with different curricula are compared
# under them.
REFERENCE_MASKS = ("random", "random_wide")
# They hide 15 % whatever the run hides: the fewer bases are hidden, the easier is each.
REFERENCE_PARAMS = DEFAULTS
# Under these every masked token shows [MASK], none its own or a random one, so that a hidden base
# is hidden: what a model knows of hidden bases is measured here.
FULLY_HIDDEN_MASKS = "random_wide"


class Pretraining(L.LightningModule):
    """A transformer and its masks.

    Parameters
    ----------
    experiment : Experiment
    masker : Masker
        Prepared for all strategies of the curriculum and for `REFERENCE_MASKS`.
    """

    def __init__(self, experiment: Experiment, masker: Masker):
        super().__init__()
        self.experiment = experiment
        self.masker = masker
        self.model = build_model(experiment)
        if experiment.train.precision == "bf16":
            self.model.encoder.compute_dtype = torch.bfloat16
        self.plan = MaskingPlan(experiment.curriculum.strategies[:1], params=masker.params)
        self.packed_shapes = packed_shape_policy(experiment, masker)
        self.metrics = PretrainingMetrics(
            {*REFERENCE_MASKS, *experiment.curriculum.strategies}, masker.tokenization
        )
        self._step = masked_lm_step  # or its graphs, see `compile_step`
        self._uncompiled: tuple[str, ...] = ()  # strategies whose graphs are not made yet
        self.validated: dict[str, MaskedLMValues] = {}
        self.validated_hidden: HiddenBaseValues | None = None
        # masked and maskable tokens of this process per strategy, since a callback collected them
        self.mask_counts: dict[str, Tensor] = {}
        self.gradient_norm = torch.zeros(())

    def configure_model(self) -> None:
        """Called when the processes have found each other, before each validation or fit."""
        is_model_parallel = isinstance(self.trainer.strategy, ModelParallelStrategy)
        if is_model_parallel and not is_sharded(self.model):
            assert self.device_mesh is not None  # this strategy sets it
            shard(self.model, self.device_mesh["data_parallel"])

    def on_train_batch_start(self, batch: WindowBatch, batch_idx: int) -> None:
        if self.model.encoder.config.dropout:
            # A pure function of the micro-batch's number, like all that is random in a run.
            number = batch_idx * self.trainer.world_size + self.global_rank
            torch.manual_seed(derive_key(self.experiment.seed, f"dropout {number}") >> 1)

    @property
    def strategy(self) -> str:
        """The current strategy, or two joined by +."""
        return "+".join(self.plan.strategies)

    def on_fit_start(self) -> None:
        mode = self.experiment.train.compile
        # FSDP gathers weights between layers, which one graph of the whole step cannot hold.
        on_gpu = self.device.type == "cuda" and not is_sharded(self.model)
        if mode == "always" or (mode == "auto" and on_gpu):
            self.compile_step()

    def compile_step(self, **options: Any) -> None:
        """Let torch.compile make graphs of the training step, one for each number of tokens."""
        limit = torch._dynamo.config.recompile_limit
        torch._dynamo.config.recompile_limit = max(limit, 4 * NUM_LENGTH_BUCKETS)
        self._step = torch.compile(masked_lm_step, fullgraph=True, dynamic=False, **options)
        self.masker.compile_parts(**options)
        self._uncompiled = self.experiment.curriculum.strategies

    def training_step(self, batch: WindowBatch, batch_idx: int) -> Tensor:
        packed_shape = self._packed_shape(batch)
        for name in self._uncompiled:  # all in the first step, not in the middle of the run
            self.masker(batch, name, packed_shape=packed_shape)
        self._uncompiled = ()
        masked = self.masker(batch, self.plan, packed_shape=packed_shape)
        for name, counts in zip(self.plan.strategies, masked.counts_S2, strict=True):
            self.mask_counts[name] = self.mask_counts.get(name, 0) + counts
        output = self._step(self.model, masked.ids_T, masked.layout, masked.at_M, masked.targets_M)
        self.masker.observe(batch, masked, output.loss_M)
        self.metrics.step.update(output, masked.maskable)
        if batch.in_repeat_BL is None:
            return output.loss_M.sum() / output.masked.clamp(min=1)
        weight_M = repeat_weights(
            self.masker.tokenization,
            masked,
            batch.in_repeat_BL,
            self.experiment.masking.repeat_weight,
        )
        return weighted_mean(output.loss_M, weight_M)

    def _packed_shape(self, batch: WindowBatch) -> PackedShape | None:
        """Fixed shapes where other ones would cost a synchronization or a recompilation."""
        if self._step is masked_lm_step and use_cpu_kernels(batch.codes_BL):
            return None
        return self.packed_shapes.packed_shape(batch.content_tokens(self.masker.tokenization))

    @property
    def validation_masks(self) -> list[str]:
        """The reference masks and the current strategies, in the same order on all ranks."""
        return sorted({*REFERENCE_MASKS, *self.plan.strategies})

    def on_validation_epoch_start(self) -> None:
        self.metrics.reset_validation()

    def validation_step(self, batch: WindowBatch, batch_idx: int) -> dict[str, Any]:
        """Measure a batch under all masks.

        Returns
        -------
        What is predicted where every masked token shows [MASK]: `logits_MV`, `masked` (MaskedBatch)
        and `measured` (MeasuredBases).
        """
        predicted: dict[str, Any] = {}
        for name in self.validation_masks:
            params = REFERENCE_PARAMS if name in REFERENCE_MASKS else self.plan.params
            plan = MaskingPlan((name,), params=params)
            is_fully_hidden = name == FULLY_HIDDEN_MASKS
            masked = self.masker(batch, plan, ALL_MASKED if is_fully_hidden else BERT)
            logits_MV = self.model(masked.ids_T, masked.layout, masked.at_M).float()
            self.metrics.validation_metric(name).update(
                masked_lm_loss(logits_MV, masked.targets_M), masked.maskable
            )
            if is_fully_hidden:
                self.metrics.hidden_base_metric.update(
                    logits_MV,
                    masked.targets_M,
                    batch.codes_BL,
                    masked.mask_BK,
                    masked.maskable_BK,
                    masked.ids_BK,
                )
                measured = self.metrics.hidden_base_metric.last
                predicted = {"logits_MV": logits_MV, "masked": masked, "measured": measured}
        return predicted

    def on_validation_epoch_end(self) -> None:
        self.validated = {
            name: self.metrics.validation_metric(name).compute() for name in self.validation_masks
        }
        self.validated_hidden = self.metrics.hidden_base_metric.compute()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        renumber_progress(checkpoint, self.trainer.accumulate_grad_batches)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Called on all ranks: the losses that each has observed belong to the saved state."""
        for name, losses in self.masker.running_losses.items():
            losses.collect(self.add_up)
            state = losses.state_dict(prefix=f"masker.{name}.")
            checkpoint["state_dict"].update(state)

    def add_up(self, tensor: Tensor) -> Tensor:
        """Sum over all ranks."""
        return self.trainer.strategy.reduce(tensor, reduce_op="sum")

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        limit = self.experiment.optim.max_grad_norm or math.inf
        self.gradient_norm = full_tensor(nn.utils.clip_grad_norm_(self.parameters(), limit))
        if self.gradient_norm.device.type == "cpu":
            self.check_finite()

    def check_finite(self) -> None:
        """Stop before a non-finite gradient reaches the weights (on a CPU) or a checkpoint.

        It synchronizes with the device, so on a GPU it is called when something is logged or saved.
        """
        if not torch.isfinite(self.gradient_norm):
            learning_rate = self.experiment.optim.learning_rate
            raise RunFailed(
                f"step {self.global_step + 1}: the gradient is not finite; saved states are older. "
                f"A lower optim.learning_rate ({learning_rate:g}) or optim.max_grad_norm may help"
            )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optim, total = self.experiment.optim, self.experiment.train.max_steps
        optimizer = build_optimizer(self.model, optim)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rate_factor(optim, step, total)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def masked_lm_step(
    model: MaskedLanguageModel,
    ids_T: Tensor,
    layout: SequenceLayout,
    at_M: Tensor,
    targets_M: Tensor,
) -> MaskedLMOutput:
    """Predictions at the packed positions `at_M`, and their loss."""
    return masked_lm_loss(model(ids_T, layout, at_M), targets_M)


def max_window_tokens(experiment: Experiment, tokenization: Tokenization) -> int:
    """The most tokens that a window has, [CLS] and [SEP] included: windows of byte pairs end where
    the positions do."""
    longest = tokenization.max_tokens(experiment.data.window_length)
    return min(longest, max_positions(experiment.model))


def packed_shape_policy(experiment: Experiment, masker: Masker) -> PackedShapePolicy:
    """Shapes that hold the longest windows and the largest masks that the experiment can reach."""
    tokenization = masker.tokenization
    return PackedShapePolicy(
        max_length=max_window_tokens(experiment, tokenization),
        mask_ratio=max_token_fraction(
            experiment.curriculum, experiment.masking, masker.token_fraction
        ),
        width=effective_span_width(experiment.curriculum, experiment.masking, tokenization.windows),
    )
