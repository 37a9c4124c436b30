"""A search: stopped and resumed, refused where it changed."""

import shutil
import signal

import pytest
from helpers.sweeps import interrupt_when

from cmgems.errors import SweepStopped, UserError
from cmgems.runs.experiment import load
from cmgems.sweeps.run import run_sweep
from cmgems.sweeps.search import Trials, plan_range_ends

SEARCH = "search: {trials: 6, startup: 2, metric: final.random_wide.hidden_base_bits, "
SEARCH += "keys: {optim.learning_rate: {low: 1e-4, high: 1e-2, log: true}, "
SEARCH += "optim.warmup_steps: {low: 5, high: 9}, model.init: {choices: [bert, fast_start]}}}\n"


def values(folder):
    return [
        (path.parent.name, load(path).optim.learning_rate, load(path).optim.warmup_steps)
        for path in sorted(folder.glob("trial-*/config.yaml"))
    ]


def test_a_search_is_resumed_where_it_stopped(sweep_file, tmp_path, stand_in, capsys):
    """Stopped twice, it proposes what it would have proposed."""
    folder = tmp_path / "sweep"
    run_sweep(sweep_file(SEARCH))
    whole = values(folder)
    assert len(whole) == 6
    assert "best of 6 trials" in capsys.readouterr().out
    assert len({learning_rate for _, learning_rate, _ in whole}) == 6
    shutil.rmtree(folder)
    for trial in ("trial-001", "trial-003"):
        stand_in(hang=[trial])
        interrupt_when((folder / trial / "metrics.csv").exists, [signal.SIGTERM])
        with pytest.raises(SweepStopped):
            run_sweep(sweep_file(SEARCH))
    stand_in()
    run_sweep(sweep_file(SEARCH))
    assert values(folder) == whole
    best = min(whole, key=lambda trial: abs(trial[1] - 0.002))[0]
    assert f"  {best}" in capsys.readouterr().out.splitlines()[-5]


def test_a_search_that_changed_is_refused(sweep_file, tmp_path, stand_in):
    run_sweep(sweep_file(SEARCH, "search.trials=1"))
    file = sweep_file(SEARCH.replace("1e-4", "1e-3"))
    with pytest.raises(UserError, match=r"search.keys: the search in .* wanted the same"):
        run_sweep(file)
    assert [run.name for run in plan_range_ends(file)] == ["trial-low", "trial-high"]
    file = sweep_file(SEARCH, "search.metric=final.random.nothing")
    with pytest.raises(UserError, match=r"no nothing in results.json, there is perplexity"):
        run_sweep(file)
    assert Trials(file).next().name == "trial-001"
