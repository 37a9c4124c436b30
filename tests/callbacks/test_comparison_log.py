"""What a run writes so that TensorBoard can compare it; and runs that stop in a validation."""

import pytest
from helpers.paths import EXPERIMENTS
from helpers.runs import interrupt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cmgems.data_modules.windows import WindowStream
from cmgems.errors import RunStopped
from cmgems.pretraining import pretrain
from cmgems.runs.experiment import load
from cmgems.runs.tensorboard import (
    BY_TOKENS,
    COMPARED,
    FINAL,
    PAGE,
    custom_scalars_layout,
    write_experiment,
)
from cmgems.training.module import Pretraining

RANDOM = EXPERIMENTS / "pretrain/random.yaml"
TAG = "validation_random_wide/hidden_base_bits"


def events(folder):
    log = EventAccumulator(str(folder), purge_orphaned_data=True)
    log.Reload()
    return log


def test_the_page_and_the_hyper_parameters_are_written(pretrained_run):
    from tensorboard.plugins.custom_scalar import layout_pb2
    from tensorboard.plugins.hparams import plugin_data_pb2

    log = events(pretrained_run)
    tensor = log.Tensors("custom_scalars__config__")[0].tensor_proto
    shown = layout_pb2.Layout.FromString(tensor.string_val[0])
    assert [category.title for category in shown.category] == [PAGE]
    patterns = [tag for chart in shown.category[0].chart for tag in chart.multiline.tag]
    assert f"{TAG}$" in patterns
    assert not [pattern for pattern in patterns if "probe" in pattern]  # nothing was probed
    data = log.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(data).session_start_info
    assert start.hparams["curriculum.strategies"].string_value == "random"
    assert start.hparams["train.max_steps"].number_value == 3.0
    assert not [name for name in start.hparams if name.startswith("run.")]


def test_a_probed_task_has_a_chart_of_its_official_metric():
    probed = ["probe.every_n_steps=5", "probe.tasks=[prom-core,gue/tf/0]"]
    charts = custom_scalars_layout(load(RANDOM, probed))[PAGE]
    shown = {title: chart for title, chart in charts.items() if "probe" in title}
    assert shown == {
        "probe: prom-core, accuracy": ["Multiline", [r"probe/prom\-core/accuracy$"]],
        "probe: gue/tf/0, mcc": ["Multiline", ["probe/gue/tf/0/mcc$"]],
    }


def test_a_sweep_names_what_varies_and_the_final_metrics(tiny, tmp_path):
    from tensorboard.plugins.hparams import plugin_data_pb2

    experiments = [load(RANDOM, [*tiny, "train.max_steps=3", f"seed={seed}"]) for seed in (0, 1)]
    for _ in range(2):  # a sweep that resumes writes it again
        write_experiment(tmp_path, experiments)
    assert len(list(tmp_path.iterdir())) == 1
    data = events(tmp_path).SummaryMetadata("_hparams_/experiment").plugin_data.content
    experiment = plugin_data_pb2.HParamsPluginData.FromString(data).experiment
    assert [info.name for info in experiment.hparam_infos] == ["seed"]
    assert [info.name.tag for info in experiment.metric_infos] == [
        tag for tag, _ in (*COMPARED, *FINAL)
    ]


def test_metrics_against_tokens_survive_a_resume(tiny, tmp_path, monkeypatch):
    """Their steps are later than those that TensorBoard drops when a run resumes."""
    overrides = [*tiny, "train.max_steps=9", "train.global_batch_size=20", f"run.dir={tmp_path}"]
    interrupt(monkeypatch, WindowStream, "batch", lambda first, *_: first >= 20 * 7)
    with pytest.raises(RunStopped):
        pretrain(load(RANDOM, overrides))
    results = pretrain(load(RANDOM, [*overrides, "run.resume=true"]))
    scalars = events(tmp_path).Scalars(f"{BY_TOKENS}/{TAG}")
    assert len(scalars) == 4  # the untrained model, and three validations
    assert [event.step for event in scalars][-1] == results["tokens"] // 1000 > 9
    assert [event.value for event in scalars] == [
        pytest.approx(event.value) for event in events(tmp_path).Scalars(TAG)
    ]


def test_a_signal_in_the_first_validation_stops_the_run(tiny, tmp_path, monkeypatch):
    """Lightning would swallow it, or end the run as if it were done."""
    overrides = [*tiny, "train.max_steps=3", "validation.windows=40", f"run.dir={tmp_path}"]
    interrupt(monkeypatch, Pretraining, "validation_step", lambda batch, number: number == 1)
    with pytest.raises(RunStopped, match="stopped before the first step"):
        pretrain(load(RANDOM, overrides))
    results = pretrain(load(RANDOM, [*overrides, "run.resume=true"]))
    assert results["tokens"] > 0
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert len(lines) == len(
        {line.rpartition(",")[0] for line in lines}
    )  # no scalar is logged twice


def test_a_signal_in_a_later_validation_stops_the_run(tiny, tmp_path, monkeypatch):
    overrides = [*tiny, "train.max_steps=6", "validation.windows=40", f"run.dir={tmp_path}"]
    calls = []

    def second_validation(batch, number):
        calls.append(number)
        return calls.count(1) == 2

    interrupt(monkeypatch, Pretraining, "validation_step", second_validation)
    with pytest.raises(RunStopped, match="stopped at step 3, state saved"):
        pretrain(load(RANDOM, overrides))
    assert (tmp_path / "checkpoints/last.ckpt").exists()
