"""A small supervised network on the bases themselves: what can be learned of a task without
pretraining, besides counts and positions.

One convolution whose filters are motifs of 15 bases, the maximum of each over 16 parts of the
sequence, and a linear layer (after DeepBind: Alipanahi et al., Nature Biotechnology 2015). It stops
at the epoch that is best on held-out examples.
"""

import copy
import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmgems.evaluation.finetuning.train import LabelScale, loss_per_model
from cmgems.evaluation.linear.baselines import Prediction, one_hot
from cmgems.evaluation.linear.models import Target, make_folds
from cmgems.tasks.dataset import LabelledSequences, concatenate
from cmgems.utils.rng import generator, seed_torch

FILTERS, WIDTH, PARTS = 64, 15, 16
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2
MAX_EPOCHS, PATIENCE, MAX_STEPS = 100, 10, 10_000
BATCH_SIZE, MIN_STEPS = 32, 8  # few examples make smaller batches, so that an epoch has 8 steps


class MotifNetwork(nn.Module):
    """Motifs, where they are strongest, and what that says."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.motifs = nn.Conv1d(4, FILTERS, WIDTH, padding=WIDTH // 2)
        self.output = nn.Linear(FILTERS * PARTS, outputs)

    def forward(self, bases_B4L: Tensor) -> Tensor:
        """Logits [B, C] of sequences in which a base is one-hot, and an unknown one zero."""
        strength = F.relu(self.motifs(bases_B4L))
        return self.output(F.adaptive_max_pool1d(strength, PARTS).flatten(1))


class _Data(NamedTuple):
    bases_N4L: Tensor
    targets_N: Tensor


def cnn_baseline(
    train: LabelledSequences,
    test: LabelledSequences,
    kind: str,
    classes: int,
    seed: int = 0,
    strands: int = 1,
    dev: LabelledSequences | None = None,
    device: str = "cpu",
) -> Prediction:
    """Train the network and predict the test examples.

    Parameters
    ----------
    train, test : examples, aligned at their middles; longer ones than in training are cut
    kind, classes : of the task
    seed : of the weights and of the order of the examples
    strands : 2: trained on both strands, predicts the mean of both
    dev : what the epoch is chosen on; None: a fifth of the training examples
    """
    if dev is None:
        held_out = make_folds(Target(train.labels, kind, classes), seed) == 0
        dev, train = train.select(np.flatnonzero(held_out)), train.select(np.flatnonzero(~held_out))
    length = int(train.lengths.max())
    scale = LabelScale.fit(train.labels, kind)
    parts = []
    for data in (train, dev):
        both = concatenate([data, data.reverse_complement()]) if strands == 2 else data
        parts.append(_Data(_bases(both, length, device), scale.targets(both.labels).to(device)))
    with torch.random.fork_rng(devices=[]):
        seed_torch(seed, "weights of the baseline cnn")
        model = MotifNetwork(1 if kind == "regression" else classes).to(device)
    epoch = _train(model, *parts, kind, generator(seed, "batches of the baseline cnn"))
    logits = _predict(model, _bases(test, length, device))
    if strands == 2:
        logits = (logits + _predict(model, _bases(test.reverse_complement(), length, device))) / 2
    return Prediction(scale.to_label_units(logits.cpu()[None])[0], {"epoch": epoch})


def _bases(data: LabelledSequences, length: int, device: str) -> Tensor:
    table = one_hot(data, length).toarray().astype(np.float32)
    return torch.from_numpy(table).view(len(data), length, 4).mT.contiguous().to(device)


def _train(model: nn.Module, train: _Data, dev: _Data, kind: str, rng: np.random.Generator) -> int:
    """Train in place; the weights of the epoch with the least loss on dev stay. That epoch."""
    count = len(train.bases_N4L)
    size = min(max(count // MIN_STEPS, 1), BATCH_SIZE)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    least, best, weights, steps = math.inf, 0, model.state_dict(), 0
    for epoch in range(1, MAX_EPOCHS + 1):
        for rows in torch.from_numpy(rng.permutation(count)).split(size):
            logits = model(train.bases_N4L[rows])
            loss = loss_per_model(logits[None], train.targets_N[rows][None], kind)
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            steps += 1
        loss = loss_per_model(_predict(model, dev.bases_N4L)[None], dev.targets_N[None], kind)
        if float(loss) < least:
            least, best, weights = float(loss), epoch, copy.deepcopy(model.state_dict())
        if epoch - best >= PATIENCE or steps >= MAX_STEPS:
            break
    model.load_state_dict(weights)
    return best


@torch.no_grad()
def _predict(model: nn.Module, bases_N4L: Tensor) -> Tensor:
    return torch.cat([model(part) for part in bases_N4L.split(512)])
