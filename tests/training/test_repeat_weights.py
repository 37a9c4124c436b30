"""Repeats weighted in the loss, against a loop over tokens and bases; and a run that resumes."""

import signal

import numpy as np
import pytest
import torch
from helpers.paths import EXPERIMENTS
from helpers.runs import assert_same_run, interrupt_when_window_is_drawn, scalars

from cmgems.data_modules.sampling import Windows
from cmgems.data_modules.windows import collate, with_tokens
from cmgems.errors import RunStopped
from cmgems.masking.masker import Masker
from cmgems.masking.packing import PackedShape
from cmgems.masking.rates import CenterRates, corpus_tokens
from cmgems.pretraining import pretrain
from cmgems.runs.experiment import load
from cmgems.tokenization import NonOverlappingKmers, OverlappingKmers, SingleBases
from cmgems.training.repeat_weights import repeat_weights, weighted_mean
from cmgems.utils.rng import sequence_keys

LENGTHS = np.array([100, 77, 64], np.int32)


def bases_of(tokenization, ids):
    """The first base and the number of bases of each token of a sequence."""
    if not isinstance(tokenization, NonOverlappingKmers):
        return [(i, 1 if isinstance(tokenization, SingleBases) else 6) for i in range(len(ids))]
    lengths = [6 if id_ < 5 + 4**6 else 1 for id_ in ids]
    return [(sum(lengths[:i]), lengths[i]) for i in range(len(ids))]


@pytest.mark.parametrize("fixed_shape", [False, True])
@pytest.mark.parametrize("kind", [OverlappingKmers, SingleBases, NonOverlappingKmers])
def test_a_token_weighs_the_mean_of_its_bases(kind, fixed_shape, genome, human_codes, human_rank):
    tokenization = kind(6)
    corpus_BK = corpus_tokens(tokenization, human_codes[:64, :120], 20)
    rates = CenterRates(corpus_BK, human_rank, tokenization, paper=True)
    masker = Masker(tokenization, human_rank, rates)
    windows = Windows(np.array([70_003, 80_000, 90_000]), LENGTHS)
    batch = collate(np.asarray(genome.codes), windows, sequence_keys(5, np.arange(3)))
    batch = with_tokens(batch, tokenization)
    in_repeat_BL = (
        torch.rand(batch.codes_BL.shape, generator=torch.Generator().manual_seed(2)) < 0.4
    )
    tokens = batch.content_tokens(tokenization)
    shape = PackedShape.of(tuple(n + 2 for n in tokens), 102, 0.3, 11.0) if fixed_shape else None
    masker.center_rates.rates = lambda *_: torch.full((200,), 0.05)
    masked = masker(batch, "random_wide", packed_shape=shape)
    wanted = []
    for row, ids in enumerate(masked.ids_BK.tolist()):
        bases = bases_of(tokenization, ids[: tokens[row]])
        for (first, length), is_masked in zip(bases, masked.mask_BK[row].tolist(), strict=False):
            if is_masked:
                covered = in_repeat_BL[row, first : first + length].tolist()
                wanted.append(sum(0.1 if repeat else 1.0 for repeat in covered) / length)
    assert len(set(wanted)) > 1
    weight_M = repeat_weights(tokenization, masked, in_repeat_BL, 0.1)
    counts_M = masked.targets_M >= 0
    assert weight_M[counts_M].tolist() == pytest.approx(wanted)
    assert not weight_M[~counts_M].any()
    assert bool((~counts_M).any()) == fixed_shape


def test_the_mean_is_over_the_sum_of_weights():
    loss_M, weight_M = torch.tensor([1.0, 5.0, 2.0]), torch.tensor([1.0, 0.1, 0.0])
    assert float(weighted_mean(loss_M, weight_M)) == pytest.approx(1.5 / 1.1)
    assert float(weighted_mean(loss_M, torch.zeros(3))) == 0.0


def test_a_run_with_weights_resumes_bit_for_bit(tiny, tmp_path, monkeypatch):
    path = EXPERIMENTS / "pretrain/random.yaml"
    overrides = [*tiny, "train.max_steps=6", "train.log_every_n_steps=1"]
    pretrain(load(path, [*overrides, f"run.dir={tmp_path / 'plain'}"]))
    overrides.append("masking.repeat_weight=0.1")
    pretrain(load(path, [*overrides, f"run.dir={tmp_path / 'whole'}"]))
    plain, weighted = (scalars(tmp_path / name) for name in ("plain", "whole"))
    # the first step has the same weights and an unweighted metric; what it changed shows later
    assert weighted[1, "train/loss"] == plain[1, "train/loss"]
    assert weighted[6, "train/loss"] != plain[6, "train/loss"]
    overrides.append(f"run.dir={tmp_path / 'run'}")
    interrupt_when_window_is_drawn(monkeypatch, number=4 * 4 + 1, signal_number=signal.SIGINT)
    with pytest.raises(RunStopped):
        pretrain(load(path, overrides))
    pretrain(load(path, [*overrides, "run.resume=true"]))
    assert_same_run(tmp_path / "whole", tmp_path / "run")
