"""The LightningModule of masked pretraining.

It masks on the device, computes the loss and keeps the figures; how to mask is told to it through
`plan` (by `cmgems.callbacks.CurriculumCallback`), what becomes of the figures is the business of
the other callbacks.
"""

import math

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn

from cmgems.config import Experiment, Optim
from cmgems.draws import seed_torch, stream
from cmgems.encoder import MaskedLanguageModel
from cmgems.errors import RunFailed
from cmgems.initialisation import initialise
from cmgems.kmers import FIRST_KMER
from cmgems.masking.corrupt import ALL_MASKED, BERT
from cmgems.masking.masker import MaskedBatch, Masker, Plan
from cmgems.metrics import HiddenBases, HiddenFigures, MaskedFigures, MaskedTokens
from cmgems.presets import encoder_shape
from cmgems.sharding import is_sharded, shard, whole
from cmgems.windows import WindowBatch

# Their places do not depend on content, so runs with different curricula compare under them.
COMMON_MASKS = ("random", "random_wide")
# Under these every masked token shows [MASK], none its own or a random k-mer, so that a hidden base
# is hidden: what a model knows of hidden bases is measured here.
HIDING_MASKS = "random_wide"


class Pretraining(L.LightningModule):
    """A transformer and its masks.

    Parameters
    ----------
    experiment : Experiment
    masker : Masker
        Prepared for all strategies of the curriculum and for `COMMON_MASKS`.
    """

    def __init__(self, experiment: Experiment, masker: Masker):
        super().__init__()
        self.optim = experiment.optim
        self.max_steps = experiment.train.max_steps
        self.seed = experiment.seed
        self.masker = masker
        self.model = build_model(experiment)
        self.plan = Plan(experiment.curriculum.strategies[:1], settings=masker.settings)
        self.training_figures = MaskedTokens()
        self.view_names = sorted({*COMMON_MASKS, *experiment.curriculum.strategies})
        self.views = nn.ModuleList(MaskedTokens() for _ in self.view_names)
        self.hidden_view = HiddenBases(experiment.data.k)
        self.validated: dict[str, MaskedFigures] = {}
        self.validated_hidden: HiddenFigures | None = None
        # masked and maskable tokens by strategy, of this process since somebody took them
        self.mask_counts: dict[str, Tensor] = {}
        self.gradient_norm = torch.zeros(())

    def configure_model(self) -> None:
        """Called when the processes have found each other, before each validation or fit."""
        wanted = isinstance(self.trainer.strategy, ModelParallelStrategy)
        if wanted and not is_sharded(self.model):
            shard(self.model, self.device_mesh["data_parallel"])

    def on_train_batch_start(self, batch: WindowBatch, batch_idx: int) -> None:
        if self.model.encoder.shape.dropout:
            # A pure function of the place in the run, like every other draw.
            place = batch_idx * self.trainer.world_size + self.global_rank
            torch.manual_seed(stream(self.seed, f"dropout {place}") >> 1)

    @property
    def strategy(self) -> str:
        """What is in force: a strategy, or two joined by +."""
        return "+".join(self.plan.strategies)

    def training_step(self, batch: WindowBatch, batch_idx: int) -> Tensor:
        masked = self.masker(batch, self.plan)
        for name, counts in zip(self.plan.strategies, masked.counts_S2, strict=True):
            self.mask_counts[name] = self.mask_counts.get(name, 0) + counts
        logits_MV = self._logits(masked)
        if self.masker.losses is None:
            nats = F.cross_entropy(logits_MV, masked.targets_M, reduction="sum")
        else:
            nats_M = F.cross_entropy(logits_MV, masked.targets_M, reduction="none")
            self.masker.losses.observe(masked.targets_M - FIRST_KMER, nats_M)
            nats = nats_M.sum()
        self._note(self.training_figures, masked, logits_MV, nats)
        return nats / max(len(masked.targets_M), 1)

    @property
    def validation_masks(self) -> list[str]:
        """Those that compare across runs, and the one in force; in the same order on all ranks."""
        return sorted({*COMMON_MASKS, *self.plan.strategies})

    def view(self, name: str) -> MaskedTokens:
        """The validation figures under the masks of a strategy."""
        return self.views[self.view_names.index(name)]

    def on_validation_epoch_start(self) -> None:
        for view in (*self.views, self.hidden_view):
            view.reset()

    def validation_step(self, batch: WindowBatch, batch_idx: int) -> None:
        for name in self.validation_masks:
            # Masks that compare across runs keep the settings of the start.
            plan = name if name in COMMON_MASKS else Plan((name,), settings=self.plan.settings)
            hiding = name == HIDING_MASKS
            masked = self.masker(batch, plan, ALL_MASKED if hiding else BERT)
            logits_MV = self._logits(masked)
            nats = F.cross_entropy(logits_MV, masked.targets_M, reduction="sum")
            self._note(self.view(name), masked, logits_MV, nats)
            if hiding:
                self.hidden_view.update(
                    logits_MV,
                    masked.targets_M,
                    batch.codes_BL,
                    masked.mask_BK,
                    masked.maskable_BK,
                )

    def on_validation_epoch_end(self) -> None:
        self.validated = {name: self.view(name).compute() for name in self.validation_masks}
        self.validated_hidden = self.hidden_view.compute()

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Called on all ranks: what each has seen of the losses belongs to the saved state."""
        if self.masker.losses is not None:
            self.masker.losses.collect(self.add_up)
            state = self.masker.losses.state_dict(prefix="masker.losses.")
            checkpoint["state_dict"].update(state)

    def add_up(self, tensor: Tensor) -> Tensor:
        """Sum over all ranks."""
        return self.trainer.strategy.reduce(tensor, reduce_op="sum")

    def _logits(self, masked: MaskedBatch) -> Tensor:
        return self.model(masked.ids_T, masked.layout, masked.at_M).float()

    def _note(
        self, figures: MaskedTokens, masked: MaskedBatch, logits_MV: Tensor, nats: Tensor
    ) -> None:
        figures.update(logits_MV.detach(), masked.targets_M, nats.detach(), masked.maskable)

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, **_) -> None:
        limit = self.optim.clip or math.inf
        self.gradient_norm = whole(nn.utils.clip_grad_norm_(self.parameters(), limit))
        if self.gradient_norm.device.type == "cpu":
            self.check_finite()

    def check_finite(self) -> None:
        """Stop before a non-finite gradient reaches the weights (on a CPU) or a checkpoint.

        Waits for the device, so on a GPU it is called when something is logged or saved.
        """
        if not torch.isfinite(self.gradient_norm):
            raise RunFailed(
                f"step {self.global_step + 1}: the gradient is not finite; saved states are older. "
                f"A lower optim.rate ({self.optim.rate:g}) or optim.clip may help"
            )

    def configure_optimizers(self) -> dict:
        optimizer = adamw(self.model, self.optim)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rate_factor(step, self.optim.warmup_steps, self.max_steps)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def build_model(experiment: Experiment) -> MaskedLanguageModel:
    """The model of an experiment with its initial weights, a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        seed_torch(experiment.seed, "weights")
        built = MaskedLanguageModel(encoder_shape(experiment))
        initialise(built, experiment.model, experiment.data.k)
    return built


def rate_factor(step: int, warmup: int, total: int) -> float:
    """Linear warm-up to 1 over `warmup` steps, then linear decay to 0 at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (total - step) / max(1, total - warmup))


def adamw(model: nn.Module, optim: Optim) -> torch.optim.AdamW:
    """AdamW that decays weight matrices, not biases and LayerNorms."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": optim.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=optim.rate, betas=(optim.beta1, optim.beta2), eps=optim.eps, fused=True
    )
