"""A small supervised network on the bases themselves: what can be learned of a task without
pretraining, besides counts and positions.

One convolution whose filters are motifs of 15 bases, the maximum of each over the sequence or over
each of 16 parts of it, and a linear layer (after DeepBind: Alipanahi et al., Nature Biotechnology
2015). Held-out examples choose between the two, and the epoch at which training stops.
"""

import copy
import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmgems.evaluation.finetuning.train import LabelScale, loss_per_model
from cmgems.evaluation.linear.baselines import Prediction
from cmgems.evaluation.linear.models import Target, make_folds
from cmgems.genome.alphabet import AMBIGUOUS
from cmgems.tasks.dataset import LabelledSequences, concatenate
from cmgems.utils.rng import generator, seed_torch

FILTERS, WIDTH = 64, 15
PARTS = (1, 16)  # 1: a motif counts wherever it is
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2
MAX_EPOCHS, PATIENCE, MAX_STEPS = 100, 10, 10_000
BATCH_SIZE, MIN_STEPS = 32, 8  # few examples make smaller batches, so that an epoch has 8 steps


class MotifNetwork(nn.Module):
    """Motifs, where they are strongest, and what that says."""

    def __init__(self, outputs: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.motifs = nn.Conv1d(4, FILTERS, WIDTH, padding=WIDTH // 2)
        self.output = nn.Linear(FILTERS * parts, outputs)

    def forward(self, codes_BL: Tensor) -> Tensor:
        """Logits [B, C] of base codes; one that is not known is zero where others are one-hot."""
        bases_BL4 = F.one_hot(codes_BL.long(), AMBIGUOUS + 1)[..., :AMBIGUOUS]
        strength = F.relu(self.motifs(bases_BL4.mT.float()))
        return self.output(F.adaptive_max_pool1d(strength, self.parts).flatten(1))


class _Data(NamedTuple):
    codes_NL: Tensor  # uint8
    targets_N: Tensor


class _Trained(NamedTuple):
    model: MotifNetwork
    epoch: int  # from 1
    loss: float  # on dev


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
    fitted_on, chosen_on = (_data(part, length, scale, strands, device) for part in (train, dev))
    trained = []
    for number in PARTS:
        with torch.random.fork_rng(devices=[]):
            seed_torch(seed, "weights of the baseline cnn")
            network = MotifNetwork(1 if kind == "regression" else classes, number).to(device)
        rng = generator(seed, "batches of the baseline cnn")
        trained.append(_train(network, fitted_on, chosen_on, kind, rng))
    model, epoch, _ = min(trained, key=lambda one: one.loss)
    logits = _predict(model, _codes(test, length, device))
    if strands == 2:
        logits = (logits + _predict(model, _codes(test.reverse_complement(), length, device))) / 2
    return Prediction(
        scale.to_label_units(logits.cpu()[None])[0], {"parts": model.parts, "epoch": epoch}
    )


def _data(
    data: LabelledSequences, length: int, scale: LabelScale, strands: int, device: str
) -> _Data:
    if strands == 2:
        data = concatenate([data, data.reverse_complement()])
    return _Data(_codes(data, length, device), scale.targets(data.labels).to(device))


def _codes(data: LabelledSequences, length: int, device: str) -> Tensor:
    """uint8 [N, length]: base codes, sequences aligned at their middles; what is beyond is cut."""
    lengths = data.lengths
    owner = np.repeat(np.arange(len(data)), lengths)
    shift = (length // 2 - lengths // 2)[owner]
    position = np.arange(len(data.codes)) - data.offsets[owner] + shift
    inside = (position >= 0) & (position < length)
    codes_NL = np.full((len(data), length), AMBIGUOUS, np.uint8)
    codes_NL[owner[inside], position[inside]] = data.codes[inside]
    return torch.from_numpy(codes_NL).to(device)


def _train(
    model: MotifNetwork, train: _Data, dev: _Data, kind: str, rng: np.random.Generator
) -> _Trained:
    """Train in place; the weights of the epoch with the least loss on dev stay."""
    count = len(train.codes_NL)
    size = min(max(count // MIN_STEPS, 1), BATCH_SIZE)
    optimizer = torch.optim.AdamW(
        model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    least, best, weights, steps = math.inf, 0, model.state_dict(), 0
    for epoch in range(1, MAX_EPOCHS + 1):
        for rows in torch.from_numpy(rng.permutation(count)).split(size):
            logits = model(train.codes_NL[rows])
            loss = loss_per_model(logits[None], train.targets_N[rows][None], kind)
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            steps += 1
        loss = loss_per_model(_predict(model, dev.codes_NL)[None], dev.targets_N[None], kind)
        if float(loss) < least:
            least, best, weights = float(loss), epoch, copy.deepcopy(model.state_dict())
        if epoch - best >= PATIENCE or steps >= MAX_STEPS:
            break
    model.load_state_dict(weights)
    return _Trained(model, best, least)


@torch.no_grad()
def _predict(model: nn.Module, codes_NL: Tensor) -> Tensor:
    return torch.cat([model(part) for part in codes_NL.split(512)])
