"""The masks of the judges, against what they are said to be."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.paths import EXPERIMENTS

from cmgems.data_modules.pretraining import GenomeDataModule
from cmgems.difficulty.pmi import compute_pmi_table
from cmgems.masking.masker import Masker
from cmgems.masking.rates import CenterRates
from cmgems.runs.experiment import load
from cmgems.runs.hidden_bases import JUDGE_NAMES
from cmgems.tokenization import OverlappingKmers
from cmgems.training.judge_masks import (
    FURTHER_JUDGES,
    GLOBAL_PMI,
    ISOLATED,
    ISOLATED_EVERY,
    JUDGES,
    JudgeMasker,
    build_further_judges,
)
from cmgems.training.masks import build_masker, load_difficulty
from cmgems.training.references import mask_windows

FEW = ["optim.warmup_steps=1", "validation.final_windows=64", "validation.judge_windows=32"]


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch):
    monkeypatch.setattr("cmgems.training.masks.CORPUS_WINDOWS", 64)


def judges_of(genome, name, *overrides):
    """The data of an experiment, its masker and its further judges."""
    experiment = load(EXPERIMENTS / f"pretrain/{name}.yaml", [*FEW, *overrides])
    data = GenomeDataModule(experiment, genome)
    masker = build_masker(experiment, data, load_difficulty(experiment, genome))
    return data, masker, build_further_judges(experiment, genome, masker)


def test_the_judges_are_those_that_a_comparison_knows():
    assert tuple(JUDGE_NAMES) == JUDGES


def runs(marked):
    """Where the runs of marked bases begin, and where they end."""
    edges = np.flatnonzero(np.diff(marked.astype(int), prepend=0, append=0))
    return edges[::2], edges[1::2]


@pytest.mark.parametrize("name", ["random", "bases", "nonoverlapping"])
def test_isolated_runs_are_far_from_each_other(genome, name):
    data, masker, further = judges_of(genome, name)
    masked = mask_windows(data, data.judge_windows, further.masker, ISOLATED)
    lengths, gaps = [], []
    for hidden, counted, codes in zip(
        masked.hidden_BL, masked.counted_BL, masked.codes_BL, strict=True
    ):
        first, end = runs(hidden)
        gaps += (first[1:] - end[:-1]).tolist()
        bases = np.flatnonzero(codes < 4)[-1] + 1
        assert abs(len(first) - bases / ISOLATED_EVERY) < 1.5
        first, end = runs(counted)
        lengths += (end - first).tolist()
    k = masker.tokenization.k
    assert max(lengths) == k
    assert np.mean(np.array(lengths) == k) > 0.9  # the others are at an end
    assert min(gaps) >= ISOLATED_EVERY - 2 * k


def test_isolated_places_do_not_depend_on_the_sequence(human_ids, human_rank):
    """And not on the batch: each sequence has its own."""
    kmers = OverlappingKmers(6)
    masker = JudgeMasker(kmers, human_rank, CenterRates(human_ids, human_rank, kmers))
    keys = torch.arange(80, dtype=torch.int32).reshape(40, 2)
    ids, full = human_ids[:40], torch.ones(40, 505, dtype=torch.bool)
    mask = masker.mask(ids, full, keys, ISOLATED)
    assert torch.equal(mask, masker.mask(ids.flip(0), full, keys, ISOLATED))
    assert torch.equal(mask[7:9], masker.mask(ids[7:9], full[7:9], keys[7:9], ISOLATED))
    first = mask.int().argmax(1)
    assert len(first.unique()) > 20


def test_global_pmi_has_published_ranks_and_15_percent_whatever_the_run_masks(genome):
    run_masks = ["masking.center_rate=paper", "masking.mask_ratio=0.4", "pmi.definition=exact"]
    for overrides in ([], run_masks):
        data, masker, further = judges_of(genome, "random", *overrides)
        assert further.names == FURTHER_JUDGES
        rank = torch.from_numpy(compute_pmi_table(genome, 6, "published").rank)
        rates = CenterRates(masker.center_rates.corpus_BK, rank, masker.tokenization)
        by_hand = Masker(masker.tokenization, rank, rates)
        found = mask_windows(data, data.judge_windows, further.masker, GLOBAL_PMI)
        wanted = mask_windows(data, data.judge_windows, by_hand, GLOBAL_PMI)
        for a, b in zip(found, wanted, strict=True):
            assert np.array_equal(a, b)
    own = mask_windows(data, data.judge_windows, masker, GLOBAL_PMI)
    assert not np.array_equal(own.hidden_BL, found.hidden_BL)


def test_what_a_judge_cannot_be_is_left_out_with_its_reason(genome, monkeypatch):
    experiment = load(EXPERIMENTS / "pretrain/random.yaml", FEW)
    _, masker, further = judges_of(genome, "random")
    assert further.left_out == {}
    rare = replace(experiment, pmi=replace(experiment.pmi, min_count=2_000_000))
    further = build_further_judges(rare, genome, masker)
    assert "none has a score" in further.left_out[GLOBAL_PMI]
    monkeypatch.setattr("cmgems.training.judge_masks.BytePairs", type(masker.tokenization))
    further = build_further_judges(experiment, genome, masker)
    assert further.left_out == {GLOBAL_PMI: "no PMI of byte pairs was published"}
    assert further.names == ("random", ISOLATED)
