"""The runs of a sweep file: named, overridden, refused."""

import json

import pytest
from helpers.paths import EXPERIMENTS
from helpers.sweeps import GRID

from cmgems.cli import main
from cmgems.config.options import iter_keys
from cmgems.errors import UserError
from cmgems.sweeps.config import Sweep, read_sweep
from cmgems.sweeps.plan import cross_axes, plan_runs, select_runs
from cmgems.sweeps.run import run_sweep
from cmgems.sweeps.search import plan_range_ends
from cmgems.sweeps.state import check_unchanged


def names(file):
    return [run.name for run in plan_runs(file, cross_axes(file))]


def test_a_grid_crosses_its_axes_and_names_what_varies(sweep_file):
    file = sweep_file(GRID, "train.max_steps=500")
    planned = plan_runs(file, cross_axes(file))
    assert [run.name for run in planned] == [
        "easy-seed0",
        "easy-seed1",
        "hard-seed0",
        "hard-seed1",
    ]
    hard = planned[3].experiment
    assert (hard.curriculum.strategies, hard.seed) == (("global_pmi",), 1)
    assert hard.train.max_steps == 500
    assert hard.run.dir.endswith("sweep/hard-seed1")


def test_a_list_takes_the_axes_together(sweep_file):
    axes = "mode: list\naxes: {optim.learning_rate: [1e-3, 2e-3], model.init: [bert, fast_start]}\n"
    file = sweep_file(axes)
    planned = plan_runs(file, cross_axes(file))
    assert [(run.name, run.experiment.optim.learning_rate) for run in planned] == [
        ("learning_rate0.001-bert", 0.001),
        ("learning_rate0.002-fast_start", 0.002),
    ]
    with pytest.raises(UserError, match="found 2, 1 points, mode list wants the same number"):
        cross_axes(sweep_file("mode: list\naxes: {seed: [0, 1], data.k: [6]}\n"))


def test_axes_can_be_overridden(sweep_file):
    assert names(sweep_file(GRID, "axes.seed=[7]")) == ["easy-seed7", "hard-seed7"]
    file = sweep_file("axes: {seed: [0]}\n", "axes.optim.learning_rate=[1e-3,1e-2]")
    assert names(file) == ["seed0-learning_rate0.001", "seed0-learning_rate0.01"]
    file = sweep_file("axes: {data.regions: [[../a.bed, b/c.bed]]}\n")
    assert [point.name for point in cross_axes(file)] == [".._a.bed+b_c.bed"]
    file = sweep_file(GRID, "only=hard-*")
    assert [run.name for run in select_runs(file, plan_runs(file, cross_axes(file)))] == [
        "hard-seed0",
        "hard-seed1",
    ]


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("", (), "found neither, wanted either axes or search.trials"),
        ("axes: {seed: 3}\n", (), r"axes.seed: found 3, wanted a list of values"),
        ("axes: {masking: [a, b]}\n", (), "axes: .*masking: no such key|section"),
        ("axes: {x: {easy: 3}}\n", (), r"axes.x.easy: found 3, wanted `key: value` lines"),
        ("axes: {seed: [1, 1]}\n", (), "two runs would be named seed1"),
        *(
            (
                f"axes: {{x: {{{json.dumps(name)}: {{seed: 1}}}}}}\n",
                (),
                "wanted one that a folder in",
            )
            for name in ("../up", "a/b", "/tmp/x", "", ".", "..", "a\0b", "a\nb", "a" * 201)
        ),
        ("axes: {seed: [1]}\n", ("run.dir=here",), "a sweep names its runs and their folders"),
        ("axes: {seed: [1]}\n", ("seed=2",), "this key is an axis of the sweep"),
        ("axes: {seed: [1]}\n", ("jops=2",), "jops: no such key; did you mean jobs"),
        ("axes: {seed: [1]}\n", ("only=x*",), "found 'x\\*', which no run matches"),
        ("search: {trials: 2}\n", (), "search.keys: found none"),
        (
            "search: {trials: 2, keys: {optim.learning_rate: {low: 0, high: 1, log: true}}}\n",
            (),
            "wanted low above 0",
        ),
        (
            "search: {trials: 2, keys: {optim.learning_rte: {low: 1, high: 2}}}\n",
            (),
            "optim.learning_rte: no such key; did you mean optim.learning_rate",
        ),
    ],
)
def test_refuses(text, overrides, message, sweep_file, tmp_path):
    with pytest.raises(UserError, match=message):
        run_sweep(sweep_file(text, *overrides))
    assert not (tmp_path / "sweep").exists()


def test_a_run_that_was_killed_before_its_config_is_new(sweep_file):
    file = sweep_file("axes: {seed: [1]}\n")
    (run,) = plan_runs(file, cross_axes(file))
    run.folder.mkdir(parents=True)
    for name in (".config.yaml.77.part", ".lock"):
        (run.folder / name).touch()
    check_unchanged([run])
    (run.folder / "notes.txt").touch()
    with pytest.raises(UserError, match="holds something else, wanted a run or nothing"):
        check_unchanged([run])


def test_all_problems_of_all_runs_come_before_the_first_run(sweep_file, tmp_path, stand_in):
    text = "axes: {optim.learning_rate: [-1.0, 1e-3], curriculum.strategies: [[randm], [random]]}\n"
    with pytest.raises(UserError) as refused:
        run_sweep(sweep_file(text, "train.global_batch_size=7"))
    lines = str(refused.value).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(
        "learning_rate-1.0-randm, learning_rate-1.0-random: `optim.learning_rate=-1.0`: "
        "optim.learning_rate: found -1.0"
    )
    assert any("curriculum.strategies" in line and "randm" in line for line in lines[1:])
    assert any("train.global_batch_size: found 7" in line for line in lines[1:])
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("sweep/*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_sweep_is_sound(path):
    file = read_sweep(path, [])
    planned = (
        plan_range_ends(file) if file.sweep.search.trials else plan_runs(file, cross_axes(file))
    )
    assert len({run.name for run in planned}) == len(planned) > 1


def test_help_shows_every_key_of_a_sweep(capsys):
    with pytest.raises(SystemExit):
        main(["sweep", "--help"])
    shown = capsys.readouterr().out
    assert [name for name, _ in iter_keys(Sweep) if f"  {name}" not in shown] == []
