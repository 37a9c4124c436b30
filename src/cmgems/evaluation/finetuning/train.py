"""Training of G classifiers side by side, and their logits.

Batches come from `ClassificationDataModule`: each model has its own examples and order of them. Its
head weights and dropout are its own too, functions of its seed. Nothing here knows of tasks,
replicates or files, and nothing chooses: `train` never sees a test split.
"""

from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cmgems.data_modules.classification import (
    Batch,
    ClassificationDataModule,
    EpochOrder,
    EvaluationData,
    Examples,
    TrainData,
    evaluation_loader,
)
from cmgems.errors import RunFailed
from cmgems.evaluation.finetuning.heads import Head, build_head
from cmgems.evaluation.finetuning.lora import adapt
from cmgems.evaluation.finetuning.recipes import Recipe
from cmgems.inference.encode import arithmetic, compute_hidden_states
from cmgems.models.dropout import SeededDropout
from cmgems.models.encoder import Encoder
from cmgems.models.stacked import stack
from cmgems.tasks.tokens import Tokens
from cmgems.training.optim import linear_warmup_decay
from cmgems.utils.rng import derive_key


class FineTuneConfig(NamedTuple):
    """What is trained, and for what kind of labels."""

    head: str  # a key of `heads.HEADS`
    finetune: str = "full"  # full; frozen: the head alone; lora: the head and adapters
    kind: str = "binary"  # of the task: binary, multiclass, multilabel, regression
    classes: int = 2
    rank: int = 8  # of lora
    strands: int = 1  # 2: behind the sequences that are predicted are their reverse complements


class Classifiers(nn.Module):
    """G encoders with their heads; `encoder` is None where it is frozen, and has run already."""

    def __init__(self, encoders: list[Encoder], config: FineTuneConfig, seeds: list[int]) -> None:
        super().__init__()
        self.kind, self.strands = config.kind, config.strands
        sizes, outputs = encoders[0].config, 1 if config.kind == "regression" else config.classes
        self.head: Head = build_head(
            config.head, sizes.hidden_size, outputs, sizes.max_position_embeddings, seeds
        )
        self.encoder = None if config.finetune == "frozen" else stack(encoders)
        self.to(encoders[0].tokens.weight)
        if self.encoder is not None and config.finetune == "lora":
            adapt(self.encoder, config.rank, seeds)

    def forward(self, examples: Examples, dropout: SeededDropout) -> Tensor:
        """Logits of examples whose tokens are [G, B, L]."""
        head = self.head
        device = next(head.parameters()).device
        attention_mask = examples.tokens.attention_mask().to(device)
        if self.encoder is None:
            assert examples.hidden_states is not None  # by `prepare_examples`
            return head(examples.hidden_states.to(device), attention_mask, dropout)
        hidden_states = compute_hidden_states(
            self.encoder, examples.tokens, places=head.places, dropout=dropout
        )
        return head(head.reduce(hidden_states, attention_mask), attention_mask, dropout)


def prepare_examples(
    encoder: Encoder, config: FineTuneConfig, tokens: Tokens, bf16: bool
) -> Examples:
    """The examples as `Classifiers` of this config take them: a frozen encoder runs here, once."""
    if config.finetune != "frozen":
        return Examples(tokens)
    head = build_head(
        config.head, encoder.config.hidden_size, 2, encoder.config.max_position_embeddings, [0]
    )
    device = encoder.tokens.weight.device
    places = 1 if head.reduced else tokens.ids_NL.shape[1]
    width = head.statistics * encoder.config.hidden_size
    hidden_states_NPD = torch.zeros(len(tokens), places, width)
    with torch.no_grad(), arithmetic(device, bf16):
        for batch in evaluation_loader(EvaluationData(Examples(tokens))):
            batch_tokens = batch.examples.tokens
            attention_mask = batch_tokens.attention_mask().to(device)
            hidden_states = compute_hidden_states(encoder, batch_tokens)
            reduced = head.reduce(hidden_states[None], attention_mask[None])
            hidden_states_NPD[batch.rows, : reduced.shape[2]] = reduced[0].float().cpu()
    return Examples(tokens, hidden_states_NPD)


class LabelScale(NamedTuple):
    """How labels become targets: those of a regression get mean 0 and deviation 1."""

    kind: str
    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def fit(cls, labels: np.ndarray, kind: str) -> "LabelScale":
        """The scale that training labels give."""
        if kind != "regression":
            return cls(kind)
        return cls(kind, float(labels.mean()), float(labels.std()) or 1.0)

    def targets(self, labels: np.ndarray) -> Tensor:
        """Labels as the loss takes them."""
        if self.kind == "regression":
            labels = (labels - self.mean) / self.deviation
        return torch.from_numpy(labels)

    def to_label_units(self, logits_GNC: Tensor) -> np.ndarray:
        """Logits [G, N, C] as they are; for a regression, values [G, N] in the labels' unit."""
        if self.kind != "regression":
            return logits_GNC.numpy()
        return logits_GNC.numpy()[..., 0] * self.deviation + self.mean


def train(
    model: Classifiers,
    data: ClassificationDataModule,
    recipe: Recipe,
    bf16: bool = False,
    after_epoch: Callable[[int], None] = lambda epoch: None,
) -> list[float]:
    """Train in place; the last weights stay.

    Parameters
    ----------
    model : of G classifiers
    data : of as many, in batches of the recipe's size
    after_epoch : called with the number of the epoch, from 0

    Returns
    -------
    Mean loss of each model over the last epoch.

    Raises
    ------
    RunFailed
        If a loss is not finite.
    """
    assert data.batch_size == recipe.batch_size
    training = _Training(model, recipe, data.train, bf16)
    loader = data.train_dataloader()
    means: list[float] = []
    for epoch in range(recipe.epochs):
        assert isinstance(loader.sampler, EpochOrder)
        loader.sampler.set_epoch(epoch)
        losses = [training.step(batch) for batch in islice(loader, training.steps_left)]
        means = torch.stack(losses).mean(0).tolist()
        if not np.isfinite(means).all():
            raise RunFailed(
                f"epoch {epoch + 1}: the loss is not finite; a lower learning rate than "
                f"{recipe.learning_rate:g} may help"
            )
        after_epoch(epoch)
        if not training.steps_left:
            break
    return means


class _Training:
    """Steps of AdamW on G classifiers, with the recipe's learning rate, dropout and clipping."""

    def __init__(self, model: Classifiers, recipe: Recipe, data: TrainData, bf16: bool) -> None:
        self.model, self.recipe, self.bf16 = model, recipe, bf16
        self.device = next(model.parameters()).device
        self.num_steps, self.steps_done = recipe.steps(data.index_GN.shape[1]), 0
        self.optimizer = _adamw(model, recipe)
        seeds = [derive_key(seed, "dropout") >> 1 for seed in data.seeds]
        self.dropout = SeededDropout(recipe.dropout, seeds, self.device)

    @property
    def steps_left(self) -> int:
        """Steps that are still to be made."""
        return self.num_steps - self.steps_done

    def step(self, batch: Batch) -> Tensor:
        """Make one step; return the loss of each model [G]."""
        with arithmetic(self.device, self.bf16):
            logits = self.model(batch.examples, self.dropout)
        logits = logits.float() if self.bf16 else logits
        assert batch.labels is not None  # of a training
        loss_G = loss_per_model(logits, batch.labels.to(self.device), self.model.kind)
        warmup = self.recipe.warmup(self.num_steps)
        factor = linear_warmup_decay(self.steps_done, warmup, self.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * factor
        self.optimizer.zero_grad()
        loss_G.sum().backward()
        clip_gradients_per_model(self.model, self.recipe.max_grad_norm)
        self.optimizer.step()
        self.steps_done += 1
        return loss_G.detach()


@torch.no_grad()
def predict_logits(model: Classifiers, loader: DataLoader, bf16: bool = False) -> Tensor:
    """Logits, float32 [G, N, C] on the CPU, of each of the G models.

    Parameters
    ----------
    loader : of N examples, from `evaluation_loader` or `val_dataloader`; of 2 N where the model
        reads both strands, whose logits are the mean
    """
    weights: dict[str, Tensor] = dict(model.named_parameters())
    models = len(next(iter(weights.values())))
    if model.encoder is None or next(iter(weights.values())).is_cuda:
        logits = _predict_logits(model, weights, models, loader, bf16)
    else:
        # One after the other on a CPU: the hidden states of several models at once fit no cache.
        by_model = [{name: x[g : g + 1] for name, x in weights.items()} for g in range(models)]
        logits = torch.cat([_predict_logits(model, own, 1, loader, bf16) for own in by_model])
    return logits.unflatten(1, (model.strands, -1)).mean(1)


def _predict_logits(
    model: Classifiers, weights: dict[str, Tensor], models: int, loader: DataLoader, bf16: bool
) -> Tensor:
    dropout, device = SeededDropout(0.0, [0] * models), next(iter(weights.values())).device
    rows, parts = [], []
    for batch in loader:
        with arithmetic(device, bf16):
            examples = _repeat_for_models(batch.examples, models)
            logits = torch.func.functional_call(model, weights, (examples, dropout))
        rows.append(batch.rows)
        parts.append(logits.float())
    by_length = torch.cat(parts, 1).cpu()  # once: a GPU would be waited for after each batch
    logits = torch.empty_like(by_length)
    logits[:, torch.cat(rows)] = by_length
    return logits


def _repeat_for_models(examples: Examples, models: int) -> Examples:
    """The same examples [B, ...] for each of G models [G, B, ...]."""
    ids_BL, lengths_B = examples.tokens
    tokens = Tokens(_repeated(ids_BL, models), _repeated(lengths_B, models))
    states = examples.hidden_states
    return Examples(tokens, None if states is None else _repeated(states, models))


def _repeated(x: Tensor, models: int) -> Tensor:
    return x.expand(models, *x.shape).contiguous()


def loss_per_model(logits: Tensor, targets: Tensor, kind: str) -> Tensor:
    """Mean loss of each model over its batch, [G]; with several labels, over them too."""
    if kind == "multilabel":
        losses = F.binary_cross_entropy_with_logits(logits, targets.to(logits), reduction="none")
    elif kind == "regression":
        losses = (logits[..., 0] - targets.to(logits)).square()
    else:
        losses = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
        losses = losses.view(targets.shape)
    return losses.flatten(1).mean(1)


def clip_gradients_per_model(model: nn.Module, max_norm: float) -> None:
    """Scale the gradient of each of the G models to a norm of at most `max_norm`.

    0 clips nothing.
    """
    if not max_norm:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norms = [torch.linalg.vector_norm(g, dim=tuple(range(1, g.ndim))) for g in gradients]
    scale = (max_norm / (torch.stack(norms).norm(dim=0) + 1e-6)).clamp(max=1.0)
    if scale.is_cuda or bool((scale < 1).any()):  # to look would be to wait for a GPU
        for gradient in gradients:
            gradient *= scale.view(-1, *[1] * (gradient.ndim - 1))


def _adamw(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW that decays matrices alone; after the model axis, vectors have one axis."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
