"""Training of G classifiers side by side, and what they answer.

Batches come from `ClassificationDataModule`: each model has its own examples and order of them. Its
head weights and dropout are its own too, functions of its seed. Nothing here knows of tasks, draws
or files, and nothing chooses: `train` never sees a test split.
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
    EvaluationData,
    Examples,
    TrainData,
    evaluation_loader,
)
from cmgems.errors import RunFailed
from cmgems.evaluation.finetuning.heads import Head, build_head
from cmgems.evaluation.finetuning.lora import adapt
from cmgems.evaluation.finetuning.recipes import Recipe
from cmgems.inference.encode import arithmetic, states_of
from cmgems.models.dropout import SeededDropout
from cmgems.models.encoder import Encoder
from cmgems.models.stacked import stack
from cmgems.tasks.tokens import Tokens
from cmgems.training.optim import rate_factor
from cmgems.utils.rng import derive_key


class Plan(NamedTuple):
    """What is trained."""

    head: str  # a key of `heads.HEADS`
    body: str = "full"  # full, frozen, lora
    kind: str = "binary"  # of the task: binary, multiclass, multilabel, regression
    classes: int = 2
    rank: int = 8  # of lora


class Classifiers(nn.Module):
    """G encoders with their heads; `body` is None where the encoder is frozen."""

    def __init__(self, encoders: list[Encoder], plan: Plan, seeds: list[int]):
        super().__init__()
        self.kind = plan.kind
        shape, outputs = encoders[0].config, 1 if plan.kind == "regression" else plan.classes
        self.head: Head = build_head(
            plan.head, shape.hidden_size, outputs, shape.max_position_embeddings, seeds
        )
        self.body = None if plan.body == "frozen" else stack(encoders)
        self.to(encoders[0].tokens.weight)
        if plan.body == "lora":
            adapt(self.body, plan.rank, seeds)

    def forward(self, examples: Examples, dropout: SeededDropout) -> Tensor:
        """Logits of examples whose tokens are [G, B, L]."""
        head = self.head
        device = next(head.parameters()).device
        real = examples.tokens.attention_mask().to(device)
        if self.body is None:
            return head(examples.states.to(device), real, dropout)
        states = states_of(self.body, examples.tokens, places=head.places, dropout=dropout)
        return head(head.reduce(states, real), real, dropout)


def examples_for(encoder: Encoder, plan: Plan, tokens: Tokens, bf16: bool) -> Examples:
    """The examples as `Classifiers` of this plan want them: a frozen encoder runs here, once."""
    if plan.body != "frozen":
        return Examples(tokens)
    head = build_head(
        plan.head, encoder.config.hidden_size, 2, encoder.config.max_position_embeddings, [0]
    )
    device = encoder.tokens.weight.device
    places = 1 if head.reduced else tokens.ids_NL.shape[1]
    kept = torch.zeros(len(tokens), places, encoder.config.hidden_size)
    with torch.no_grad(), arithmetic(device, bf16):
        for batch in evaluation_loader(EvaluationData(Examples(tokens))):
            its = batch.examples.tokens
            reduced = head.reduce(
                states_of(encoder, its)[None], its.attention_mask().to(device)[None]
            )
            kept[batch.rows, : reduced.shape[2]] = reduced[0].float().cpu()
    return Examples(tokens, kept)


class LabelScale(NamedTuple):
    """How labels become targets: of a regression numbers of mean 0 and deviation 1."""

    kind: str
    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, labels: np.ndarray, kind: str) -> "LabelScale":
        if kind != "regression":
            return cls(kind)
        return cls(kind, float(labels.mean()), float(labels.std()) or 1.0)

    def targets(self, labels: np.ndarray) -> Tensor:
        """Labels as the loss takes them."""
        if self.kind == "regression":
            labels = (labels - self.mean) / self.deviation
        return torch.from_numpy(labels)

    def answers(self, logits_GNC: Tensor) -> np.ndarray:
        """Logits; of a regression numbers [G, N] in the unit of the labels."""
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
    loader, means = data.train_dataloader(), []
    for epoch in range(recipe.epochs):
        loader.sampler.set_epoch(epoch)
        losses = [training.step(batch) for batch in islice(loader, training.left)]
        means = torch.stack(losses).mean(0).tolist()
        if not np.isfinite(means).all():
            raise RunFailed(
                f"epoch {epoch + 1}: the loss is not finite; a lower rate than "
                f"{recipe.learning_rate:g} may "
                f"help"
            )
        after_epoch(epoch)
        if not training.left:
            break
    return means


class _Training:
    """Steps of AdamW on G classifiers, with the recipe's rate, dropout and clipping."""

    def __init__(self, model: Classifiers, recipe: Recipe, data: TrainData, bf16: bool):
        self.model, self.recipe, self.bf16 = model, recipe, bf16
        self.device = next(model.parameters()).device
        self.steps, self.done = recipe.steps(data.index_GN.shape[1]), 0
        self.optimizer = _adamw(model, recipe)
        seeds = [derive_key(seed, "dropout") >> 1 for seed in data.seeds]
        self.dropout = SeededDropout(recipe.dropout, seeds, self.device)

    @property
    def left(self) -> int:
        """Steps that are still to be made."""
        return self.steps - self.done

    def step(self, batch: Batch) -> Tensor:
        """Make one step; return the loss of each model [G]."""
        with arithmetic(self.device, self.bf16):
            logits = self.model(batch.examples, self.dropout)
        logits = logits.float() if self.bf16 else logits
        loss_G = losses_of(logits, batch.labels.to(self.device), self.model.kind)
        factor = rate_factor(self.done, self.recipe.warmup(self.steps), self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * factor
        self.optimizer.zero_grad()
        loss_G.sum().backward()
        clip_each(self.model, self.recipe.max_grad_norm)
        self.optimizer.step()
        self.done += 1
        return loss_G.detach()


@torch.no_grad()
def answer(model: Classifiers, loader: DataLoader, bf16: bool = False) -> Tensor:
    """Logits, float32 [G, N, C] on the CPU, by each of the G models.

    Parameters
    ----------
    loader : of N examples, from `evaluation_loader` or `val_dataloader`
    """
    weights = dict(model.named_parameters())
    models = len(next(iter(weights.values())))
    if model.body is None or next(iter(weights.values())).is_cuda:
        return _answer(model, weights, models, loader, bf16)
    # On a CPU one after the other: the states of several models at once fit no cache.
    each = [{name: x[g : g + 1] for name, x in weights.items()} for g in range(models)]
    return torch.cat([_answer(model, its, 1, loader, bf16) for its in each])


def _answer(
    model: Classifiers, weights: dict[str, Tensor], models: int, loader: DataLoader, bf16: bool
) -> Tensor:
    dropout, device = SeededDropout(0.0, [0] * models), next(iter(weights.values())).device
    rows, parts = [], []
    for batch in loader:
        with arithmetic(device, bf16):
            its = _for_each(batch.examples, models)
            logits = torch.func.functional_call(model, weights, (its, dropout))
        rows.append(batch.rows)
        parts.append(logits.float().cpu())
    found = torch.cat(parts, 1)
    out = torch.empty_like(found)
    out[:, torch.cat(rows)] = found
    return out


def _for_each(examples: Examples, models: int) -> Examples:
    """The same examples [B, ...] for each of G models [G, B, ...]."""
    ids_BL, lengths_B = examples.tokens
    tokens = Tokens(_repeated(ids_BL, models), _repeated(lengths_B, models))
    states = None if examples.states is None else _repeated(examples.states, models)
    return Examples(tokens, states)


def _repeated(x: Tensor, models: int) -> Tensor:
    return x.expand(models, *x.shape).contiguous()


def losses_of(logits: Tensor, targets: Tensor, kind: str) -> Tensor:
    """Mean loss of the batch of each model, [G]; of several labels also the mean over them."""
    if kind == "multilabel":
        each = F.binary_cross_entropy_with_logits(logits, targets.to(logits), reduction="none")
    elif kind == "regression":
        each = (logits[..., 0] - targets.to(logits)).square()
    else:
        each = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
        each = each.view(targets.shape)
    return each.flatten(1).mean(1)


def clip_each(model: nn.Module, limit: float) -> None:
    """Scale the gradient of each of the G models to a norm of at most `limit`."""
    if not limit:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norms = [torch.linalg.vector_norm(g, dim=tuple(range(1, g.ndim))) for g in gradients]
    scale = (limit / (torch.stack(norms).norm(dim=0) + 1e-6)).clamp(max=1.0)
    if bool((scale < 1).any()):
        for gradient in gradients:
            gradient *= scale.view(-1, *[1] * (gradient.ndim - 1))


def _adamw(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """Decays the matrices of each model; behind the model axis, vectors have one axis."""
    moving = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in moving if p.ndim > 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in moving if p.ndim <= 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
