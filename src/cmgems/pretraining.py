"""The LightningModule of masked pretraining.

It masks on the device, computes the loss and keeps the figures; what is masked is told to it
through `strategy` (by `cmgems.callbacks.CurriculumCallback`), what becomes of the figures is the
business of the other callbacks.
"""

import math

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmgems.config import Experiment, Optim
from cmgems.draws import seed_torch, stream
from cmgems.encoder import EncoderShape, MaskedLanguageModel
from cmgems.errors import RunFailed
from cmgems.initialisation import initialise
from cmgems.kmers import vocabulary_size
from cmgems.masking.masker import MaskedBatch, Masker
from cmgems.metrics import MaskedFigures, MaskedTokens
from cmgems.presets import sizes
from cmgems.windows import WindowBatch

# Their places do not depend on content, so runs with different curricula compare under them.
COMMON_MASKS = ("random", "random_wide")


class Pretraining(L.LightningModule):
    """A transformer and its masks.

    Parameters
    ----------
    experiment : Experiment
    masker : Masker
        With the rates of all strategies of the curriculum and of `COMMON_MASKS`.
    """

    def __init__(self, experiment: Experiment, masker: Masker):
        super().__init__()
        self.optim = experiment.optim
        self.max_steps = experiment.train.max_steps
        self.seed = experiment.seed
        self.masker = masker
        self.model = build_model(experiment)
        self.strategy = experiment.curriculum.strategies[0]
        self.training_figures = MaskedTokens()
        self.views = nn.ModuleDict(
            {name: MaskedTokens() for name in (*COMMON_MASKS, *experiment.curriculum.strategies)}
        )
        self.validated: dict[str, MaskedFigures] = {}
        self.gradient_norm = torch.zeros(())

    def on_train_batch_start(self, batch: WindowBatch, batch_idx: int) -> None:
        if self.model.encoder.shape.dropout:
            # A pure function of the place in the run, like every other draw.
            place = batch_idx * self.trainer.world_size + self.global_rank
            torch.manual_seed(stream(self.seed, f"dropout {place}") >> 1)

    def training_step(self, batch: WindowBatch, batch_idx: int) -> Tensor:
        masked = self.masker(batch, self.strategy)
        nats = self._predict(masked, self.training_figures)
        return nats / max(len(masked.targets_M), 1)

    @property
    def validation_masks(self) -> list[str]:
        """Those that compare across runs, and the one in force; in the same order on all ranks."""
        return sorted({*COMMON_MASKS, self.strategy})

    def on_validation_epoch_start(self) -> None:
        for view in self.views.values():
            view.reset()

    def validation_step(self, batch: WindowBatch, batch_idx: int) -> None:
        for name in self.validation_masks:
            self._predict(self.masker(batch, name), self.views[name])

    def on_validation_epoch_end(self) -> None:
        self.validated = {name: self.views[name].compute() for name in self.validation_masks}

    def _predict(self, masked: MaskedBatch, figures: MaskedTokens) -> Tensor:
        """Summed cross-entropy of the masked tokens, nats."""
        logits_MV = self.model(masked.ids_T, masked.layout, masked.at_M).float()
        nats = F.cross_entropy(logits_MV, masked.targets_M, reduction="sum")
        figures.update(logits_MV.detach(), masked.targets_M, nats.detach(), masked.maskable)
        return nats

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, **_) -> None:
        limit = self.optim.clip or math.inf
        self.gradient_norm = nn.utils.clip_grad_norm_(self.parameters(), limit)
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
    data, model = experiment.data, experiment.model
    shape = EncoderShape(
        **sizes(model),
        vocabulary=vocabulary_size(data.k),
        positions=model.positions,
        dropout=model.dropout,
    )
    with torch.random.fork_rng(devices=[]):
        seed_torch(experiment.seed, "weights")
        built = MaskedLanguageModel(shape)
        initialise(built, model.init, data.k)
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
