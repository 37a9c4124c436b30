"""Heads: from the hidden states of a sequence's tokens to its logits.

A head has two stages. `reduce` has no parameters and keeps what the head reads, so a frozen encoder
runs once and its reduced hidden states are kept. `forward` has the parameters. Both work on G
models side by side (`cmgems.models.stacked`); a single one is G = 1.

Contract: hidden_states [G, B, P, D] are those of the first P tokens of each sequence, [CLS]
included (P = `places` of the head, or all L); attention_mask, bool [G, B, L], is False at padding.
The last token that is not padding is [SEP]. Logits are [G, B, C], of `token` [G, B, L, C].

Shapes: G models, B sequences, L tokens, D width, C classes (1: a regression).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmgems.inference.encode import inner
from cmgems.models.dropout import SeededDropout
from cmgems.models.stacked import StackedLinear
from cmgems.utils.rng import seed_torch

DEVIATION = 0.02  # BERT's, of new weights
NARROW = 16  # width of a state in the `position` head


class Head(nn.Module):
    """`reduced` tells whether `reduce` leaves one state a sequence."""

    places: int | None = None  # tokens whose hidden states it reads; None: all
    reduced = True
    statistics = 1  # vectors of D features side by side in what `reduce` leaves

    def __init__(self, models: int, width: int, classes: int, positions: int):
        super().__init__()
        self.out = StackedLinear(models, self.statistics * width, classes)

    def reduce(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """[G, B, 1, `statistics` D], or the hidden states as they are."""
        return hidden_states

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor, dropout: SeededDropout
    ) -> Tensor:
        return self.out(dropout(hidden_states[:, :, 0]))


class Cls(Head):
    """BERT's: a dense layer and tanh over [CLS], then a linear layer."""

    places = 1

    def __init__(self, models: int, width: int, classes: int, positions: int):
        super().__init__(models, width, classes, positions)
        self.pooler = StackedLinear(models, width, width)

    def reduce(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        return hidden_states[:, :, :1]

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor, dropout: SeededDropout
    ) -> Tensor:
        return self.out(dropout(torch.tanh(self.pooler(hidden_states[:, :, 0]))))


class Mean(Head):
    """The mean over the tokens: blind to where in a sequence something is."""

    def reduce(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        return mean(hidden_states, attention_mask)


class Max(Head):
    """The largest of the tokens in each channel."""

    def reduce(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        return largest(hidden_states, attention_mask)


class MeanMax(Head):
    """The mean and the largest of the tokens, side by side."""

    statistics = 2

    def reduce(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        parts = mean(hidden_states, attention_mask), largest(hidden_states, attention_mask)
        return torch.cat(parts, -1)


class Attention(Head):
    """A mean over the tokens with weights that are learned from the hidden states."""

    reduced = False

    def __init__(self, models: int, width: int, classes: int, positions: int):
        super().__init__(models, width, classes, positions)
        self.weigh = StackedLinear(models, width, 1)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor, dropout: SeededDropout
    ) -> Tensor:
        weight = (
            self.weigh(hidden_states)
            .masked_fill(~inner(attention_mask)[..., None], -torch.inf)
            .softmax(2)
        )
        return self.out(dropout((hidden_states * weight).sum(2)))


class Position(Head):
    """Each place, counted from the middle of the sequence, has weights of its own.

    For what sits at a fixed place, as splice sites do: pooling over places loses it.
    """

    reduced = False

    def __init__(self, models: int, width: int, classes: int, positions: int):
        nn.Module.__init__(self)
        self.classes, self.positions = classes, positions
        self.narrow = StackedLinear(models, width, NARROW)
        self.place = nn.Parameter(torch.zeros(models, positions, NARROW * classes))
        self.bias = nn.Parameter(torch.zeros(models, classes))

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor, dropout: SeededDropout
    ) -> Tensor:
        narrow = dropout(torch.tanh(self.narrow(hidden_states)))  # [G, B, L, 16]
        model = torch.arange(len(self.place), device=hidden_states.device)[:, None, None]
        row = model * self.positions + from_middle(attention_mask, self.positions)
        weight = F.embedding(row, self.place.flatten(0, 1)).unflatten(-1, (NARROW, self.classes))
        narrow = narrow * inner(attention_mask)[..., None]
        logits = torch.einsum("gblw,gblwc->gbc", narrow, weight.to(narrow.dtype))
        return logits + self.bias[:, None]


class Token(Head):
    """Logits of every token, [CLS] and [SEP] included: leave those out of the loss."""

    reduced = False

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor, dropout: SeededDropout
    ) -> Tensor:
        return self.out(dropout(hidden_states))


HEADS: dict[str, type[Head]] = {
    "cls": Cls,
    "mean": Mean,
    "max": Max,
    "mean_max": MeanMax,
    "attention": Attention,
    "position": Position,
    "token": Token,
}


def head_name(head: Head) -> str:
    """The key of `HEADS` that a head was built by."""
    return next(name for name, kind in HEADS.items() if type(head) is kind)


def build_head(
    name: str, width: int, classes: int, positions: int, seeds: list[int], purpose: str = "head"
) -> Head:
    """A head for each of the seeds; the weights of one depend on its own seed alone."""
    head = HEADS[name](len(seeds), width, classes, positions)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for model, seed in enumerate(seeds):
            seed_torch(seed, purpose)
            for part, weights in head.named_parameters():
                if weights.ndim > 2:
                    nn.init.normal_(weights[model], std=DEVIATION)
                else:
                    assert part.endswith("bias")  # and stays 0
    return head


def mean(hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
    """[G, B, 1, D]: the mean over the tokens between [CLS] and [SEP]."""
    weight = inner(attention_mask).to(hidden_states.dtype)[..., None]
    return (hidden_states * weight).sum(2, keepdim=True) / weight.sum(2, keepdim=True)


def largest(hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
    """[G, B, 1, D]: the largest of those tokens in each channel."""
    outside = ~inner(attention_mask)[..., None]
    return hidden_states.masked_fill(outside, -torch.inf).amax(2, keepdim=True)


def from_middle(attention_mask: Tensor, positions: int) -> Tensor:
    """int64, shape of the mask: place of each token, the middle one of its sequence at S // 2."""
    place = torch.arange(attention_mask.shape[-1], device=attention_mask.device)
    shift = positions // 2 - (attention_mask.sum(-1, keepdim=True) - 1) // 2
    return (place + shift).clamp(0, positions - 1)
