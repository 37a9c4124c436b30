"""A run is judged at its end: on its final windows, beside references, and again after a stop."""

import json
import shutil
import signal

import numpy as np
import pytest
import torch
from helpers.paths import EXPERIMENTS
from helpers.runs import interrupt, scalars

from cmgems.callbacks import FinalEvaluation
from cmgems.callbacks.training_log import is_final
from cmgems.errors import RunStopped
from cmgems.pretraining import pretrain
from cmgems.runs.experiment import load
from cmgems.training import judge
from cmgems.training.collection import CollectedPredictions
from cmgems.training.copies import STRATA
from cmgems.training.judge import judges_scalars, named_scalars
from cmgems.training.judge_masks import FURTHER_JUDGES, JUDGES

BASES = EXPERIMENTS / "pretrain/bases.yaml"
STEPS = ["train.max_steps=6", "validation.final_windows=60", "validation.judge_windows=24"]


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """A run of six steps, its overrides, its results, and what was given to the judges."""
    folder, given = tmp_path_factory.mktemp("final") / "run", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "cmgems.callbacks.final_evaluation.judge_masks",
            lambda *args: given.append(args) or judge.judge_masks(*args),
        )
        results = pretrain(load(BASES, [*tiny, *STEPS, f"run.dir={folder}"]))
    return folder, [*tiny, *STEPS], results, given


@pytest.mark.parametrize("number", range(len(JUDGES)), ids=JUDGES)
def test_predictions_and_references_are_of_the_same_bases(run, number):
    """The probability of the reference's true base is what the model pays for it."""
    _, _, results, given = run
    predictions, references, _ = given[number]
    own = np.arange(len(references.true_H)), references.true_H
    paid = -np.log2(predictions.probability_H4[own])
    assert predictions.bits_H == pytest.approx(paid, abs=1e-5)
    assert predictions.probability_H4.sum(1) == pytest.approx(1.0, abs=1e-5)
    judged = results["judges"][JUDGES[number]]
    assert len(paid) == judged["strata"]["all"]["bases"]
    assert len(np.unique(references.window_H)) == judged["windows"] <= (24 if number else 60)
    if number == 0:
        assert len(paid) == results["hidden_bases"]["strata"]["all"]["bases"]
        assert judged["windows"] == results["hidden_bases"]["windows"]


def test_each_judge_has_its_figures_and_its_sums_by_window(run):
    folder, _, results, given = run
    assert list(results["judges"]) == list(JUDGES)
    with np.load(folder / "window_sums.npz") as arrays:
        sums = dict(arrays)
    for name, (predictions, references, _) in zip(JUDGES, given, strict=True):
        for stratum, found in results["judges"][name]["strata"].items():
            held_H = STRATA[stratum].holds(references.copies_H)
            assert found["bits"]["model"]["mean"] == pytest.approx(
                predictions.bits_H[held_H].mean()
            )
            bases_N = sums[f"{name}/{stratum}/bases"]
            assert len(bases_N) == (24 if name in FURTHER_JUDGES else 60)
            assert bases_N.sum() == found["bases"] == held_H.sum()
            for quantity in ("model", "recalibrated"):
                mean = sums[f"{name}/{stratum}/{quantity}"].sum() / bases_N.sum()
                assert mean == pytest.approx(found["bits"][quantity]["mean"], abs=1e-5)
                logged = scalars(folder)[6, f"judge_{name}/{stratum}_{quantity}_bits"]
                assert float(logged) == pytest.approx(mean, abs=1e-5)
    gained = sums["random_wide/all/gained_over_markov"].sum() / sums["random_wide/all/bases"].sum()
    wanted = results["hidden_bases"]["strata"]["all"]["gained_over_markov"]["mean"]
    assert gained == pytest.approx(wanted, abs=1e-5)
    assert set(judges_scalars(results["judges"])) <= {tag for _, tag in scalars(folder)}


def test_the_metrics_of_the_end_are_of_the_same_windows(run):
    folder, _, results, _ = run
    bits = results["hidden_bases"]["strata"]["all"]["bits"]["model"]["mean"]
    assert results["final"]["random_wide"]["hidden_base_bits"] == pytest.approx(bits, abs=1e-5)
    written = scalars(folder)
    assert float(written[6, "validation_random_wide/hidden_base_bits"]) != pytest.approx(bits)
    assert results["reference"]["hidden_bases"] == results["hidden_bases"]["strata"]["all"]["bases"]
    for name, value in named_scalars(results["hidden_bases"]).items():
        assert float(written[6, name]) == pytest.approx(value)


def test_markov_models_know_more_from_more_data_of_the_sample(run):
    bits = run[2]["hidden_bases"]["strata"]["all"]["bits"]
    assert bits["markov"]["mean"] < bits["markov_seen"]["mean"] < 2.1
    assert run[2]["hidden_bases"]["seen_bases"] < 6 * 4 * 128 + 1


def test_a_run_that_ended_before_it_was_judged_is_judged_when_it_is_resumed(run, tmp_path):
    folder, overrides, results, _ = run
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run/results.json").unlink()
    before = (tmp_path / "run/checkpoints/last.ckpt").read_bytes()
    again = pretrain(load(BASES, [*overrides, f"run.dir={tmp_path / 'run'}", "run.resume=true"]))
    for name in ("initial", "final", "hidden_bases", "judges", "reference", "tokens", "best_step"):
        assert again[name] == results[name], name
    assert (tmp_path / "run/checkpoints/last.ckpt").read_bytes() == before
    assert scalars(tmp_path / "run") == scalars(folder)


def test_a_signal_stops_the_evaluation_and_a_resumed_run_begins_it_anew(run, tmp_path, monkeypatch):
    _, overrides, results, _ = run
    overrides = [*overrides, f"run.dir={tmp_path / 'run'}"]
    interrupt(
        monkeypatch,
        FinalEvaluation,
        "on_validation_batch_end",
        lambda trainer, *arguments: is_final(trainer) and arguments[3] == 1,
    )
    with pytest.raises(RunStopped, match="at step 6") as stopped:
        pretrain(load(BASES, overrides))
    assert stopped.value.signal_number == signal.SIGTERM
    assert not (tmp_path / "run/results.json").exists()
    resumed = pretrain(load(BASES, [*overrides, "run.resume=true"]))
    assert resumed["hidden_bases"] == results["hidden_bases"]
    assert resumed["final"] == results["final"]


def test_references_are_read_from_the_store_the_second_time(run, tmp_path, monkeypatch):
    _, overrides, results, _ = run

    def refuse(*args, **kwargs):
        raise AssertionError("counted again")

    for module in ("references", "final_references"):
        monkeypatch.setattr(f"cmgems.training.{module}.count_stretches", refuse)
    again = pretrain(load(BASES, [*overrides, f"run.dir={tmp_path / 'run'}"]))
    assert again["hidden_bases"] == results["hidden_bases"]


def test_a_damaged_cache_is_computed_again(run, genome, tmp_path):
    _, overrides, results, _ = run
    for path in (genome.path / "references").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:-100])
    again = pretrain(load(BASES, [*overrides, f"run.dir={tmp_path / 'run'}"]))
    assert again["hidden_bases"] == results["hidden_bases"]


def test_windows_too_short_to_hide_a_base_are_not_judged(tiny, tmp_path, capsys):
    """A window of 6 bases holds one 6-mer, which is seldom masked."""
    short = ["data.window_length=16", "data.min_window_length=6", "validation.final_windows=1"]
    short += ["validation.windows=1", "train.max_steps=3", "masking.mask_ratio=0.001"]
    results = pretrain(
        load(EXPERIMENTS / "pretrain/random.yaml", [*tiny, *short, f"run.dir={tmp_path / 'run'}"])
    )
    assert results["hidden_bases"] == results["judges"] == results["reference"] == {}
    assert "hidden bases" not in capsys.readouterr().out
    assert json.loads((tmp_path / "run/results.json").read_text())["hidden_bases"] == {}


class Rank:
    """What `CollectedPredictions` asks of a trainer and a module, on one of several processes."""

    device = torch.device("cpu")

    def __init__(self, rank, ranks, sums):
        self.global_rank, self.world_size, self._sums = rank, ranks, iter(sums)

    def add_up(self, tensor):
        return next(self._sums)(tensor)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_values_of_all_ranks_come_in_the_order_of_the_windows(ranks):
    generator = np.random.default_rng(ranks)
    counts = generator.integers(0, 4, 11)
    values = [torch.rand(int(count), 5) for count in counts]
    whole = torch.cat(values)
    parts = []
    for rank in range(ranks):
        mine = Rank(rank, ranks, [lambda _: torch.from_numpy(counts), lambda part: part])
        collected = CollectedPredictions(mine)
        collected._counts = [torch.from_numpy(counts[rank::ranks])]
        collected._values = values[rank::ranks]
        parts.append(collected._values_of_all(mine, 11))
    assert torch.equal(torch.stack(parts).sum(0), whole)
