"""Training of G classifiers side by side, and what they answer.

Each model has its own examples (rows of one table), its own order of them, its own head weights
and dropout, all functions of its seed. Nothing here knows of tasks, draws or files, and nothing
chooses: `train` never sees a test split.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmgems.downstream.encode import arithmetic, states_of
from cmgems.downstream.heads import Head, build_head
from cmgems.downstream.low_rank import adapt
from cmgems.downstream.recipes import Recipe
from cmgems.downstream.stack import Dropout, StackedEncoder
from cmgems.downstream.tokens import Tokens, batches
from cmgems.draws import sequence_keys, stream
from cmgems.encoder import Encoder
from cmgems.errors import RunFailed
from cmgems.pretraining import rate_factor


class Examples(NamedTuple):
    """N sequences, and of a frozen encoder the reduced states of each."""

    tokens: Tokens
    states: Tensor | None = None  # [N, P, D]

    def take(self, index: Tensor) -> "Examples":
        tokens = self.tokens.take(index)
        states = None if self.states is None else self.states[index]
        if states is not None and states.shape[-2] > 1:
            states = states[..., : tokens.ids_NL.shape[-1], :]
        return Examples(tokens, states)


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
        shape, outputs = encoders[0].shape, 1 if plan.kind == "regression" else plan.classes
        self.head: Head = build_head(plan.head, shape.width, outputs, shape.positions, seeds)
        self.body = None if plan.body == "frozen" else StackedEncoder(encoders)
        self.to(encoders[0].tokens.weight)
        if plan.body == "lora":
            adapt(self.body, plan.rank, seeds)

    def forward(self, examples: Examples, dropout: Dropout) -> Tensor:
        """Logits of examples whose tokens are [G, B, L]."""
        head = self.head
        device = next(head.parameters()).device
        real = examples.tokens.real().to(device)
        if self.body is None:
            return head(examples.states.to(device), real, dropout)
        ids = examples.tokens.ids_NL.to(device)
        padding = None if bool(examples.tokens.real().all()) else real
        return head(head.reduce(self.body(ids, padding, dropout, head.places), real), real, dropout)


def examples_for(encoder: Encoder, plan: Plan, tokens: Tokens, bf16: bool) -> Examples:
    """The examples as `Classifiers` of this plan want them: a frozen encoder runs here, once."""
    if plan.body != "frozen":
        return Examples(tokens)
    head = build_head(plan.head, encoder.shape.width, 2, encoder.shape.positions, [0])
    device = encoder.tokens.weight.device
    body = StackedEncoder([encoder])
    places = 1 if head.reduced else tokens.ids_NL.shape[1]
    kept = torch.zeros(len(tokens), places, encoder.shape.width)
    with torch.no_grad(), arithmetic(device, bf16):
        for rows in batches(tokens):
            batch = tokens.take(rows)
            reduced = head.reduce(states_of(body, batch), batch.real().to(device)[None])
            kept[rows, : reduced.shape[2]] = reduced[0].float().cpu()
    return Examples(tokens, kept)


def train(
    model: Classifiers,
    examples: Examples,
    index_GN: np.ndarray,
    targets: Tensor,
    kind: str,
    recipe: Recipe,
    seeds: list[int],
    bf16: bool = False,
    after_epoch: Callable[[int], None] = lambda epoch: None,
) -> list[float]:
    """Train in place; the last weights stay.

    Parameters
    ----------
    model : of G = len(seeds) classifiers
    examples : the table that `index_GN` points into
    index_GN : the training examples of each model, int64 [G, N]
    targets : labels of the whole table, int64 [rows], float [rows] or [rows, C]
    kind : binary, multiclass, multilabel or regression
    after_epoch : called with the number of the epoch, from 0

    Returns
    -------
    Mean loss of each model over the last epoch.

    Raises
    ------
    RunFailed
        If a loss is not finite.
    """
    device = next(model.parameters()).device
    steps = recipe.steps(index_GN.shape[1])
    optimizer = _adamw(model, recipe)
    dropout = Dropout(recipe.dropout, [stream(s, "dropout") >> 1 for s in seeds], device)
    step, means = 0, []
    for epoch in range(recipe.epochs):
        order_GN = np.stack([_shuffled(i, s, epoch) for i, s in zip(index_GN, seeds, strict=True)])
        losses = []
        for start in range(0, order_GN.shape[1], recipe.batch):
            if step == steps:
                break
            rows = torch.from_numpy(order_GN[:, start : start + recipe.batch])
            with arithmetic(device, bf16):
                logits = model(examples.take(rows), dropout)
            logits = logits.float() if bf16 else logits
            loss_G = losses_of(logits, targets[rows].to(device), kind)
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * rate_factor(step, recipe.warmup(steps), steps)
            optimizer.zero_grad()
            loss_G.sum().backward()
            clip_each(model, recipe.clip)
            optimizer.step()
            losses.append(loss_G.detach())
            step += 1
        means = torch.stack(losses).mean(0).tolist() if losses else means
        if not np.isfinite(means).all():
            raise RunFailed(
                f"epoch {epoch + 1}: the loss is not finite; a lower rate than {recipe.rate:g} may "
                f"help"
            )
        after_epoch(epoch)
        if step == steps:
            break
    return means


@torch.no_grad()
def answer(model: Classifiers, examples: Examples, bf16: bool = False) -> Tensor:
    """Logits, float32 [G, N, C] on the CPU, of all examples by each of the G models."""
    weights = dict(model.named_parameters())
    models = len(next(iter(weights.values())))
    if model.body is None or next(iter(weights.values())).is_cuda:
        return _answer(model, weights, models, examples, bf16)
    # On a CPU one after the other: the states of several models at once fit no cache.
    each = [{name: x[g : g + 1] for name, x in weights.items()} for g in range(models)]
    return torch.cat([_answer(model, its, 1, examples, bf16) for its in each])


def _answer(
    model: Classifiers, weights: dict[str, Tensor], models: int, examples: Examples, bf16: bool
) -> Tensor:
    dropout = Dropout(0.0, [0] * models)
    device, out = next(iter(weights.values())).device, None
    for rows in batches(examples.tokens):
        with arithmetic(device, bf16):
            batch = examples.take(rows.expand(models, -1))
            logits = torch.func.functional_call(model, weights, (batch, dropout))
        if out is None:
            out = torch.empty(models, len(examples.tokens), logits.shape[-1])
        out[:, rows] = logits.float().cpu()
    return out


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
    return torch.optim.AdamW(groups, lr=recipe.rate, fused=True)


def _shuffled(index: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    keys = sequence_keys(stream(seed, f"order of epoch {epoch}"), np.arange(len(index)))
    return index[np.argsort(keys.view(np.uint64)[:, 0], kind="stable")]
