"""What makes runs comparable in TensorBoard: a page of charts and the table of hyper-parameters."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cmgems.config.options import get_value, iter_keys
from cmgems.config.schema import Experiment

# Metrics that compare across maskings: they are measured under the same masks in all runs.
COMPARED = (
    ("validation_random/perplexity", "perplexity, random masks"),
    ("validation_random_wide/perplexity", "perplexity, wide random masks"),
    ("validation_random_wide/hidden_base_bits", "bits per hidden base"),
    ("validation_random_wide/hidden_base_accuracy", "accuracy on hidden bases"),
)
# At the end of a run, on more windows (`cmgems.training.judge`).
FINAL = (
    ("final_unique/model_bits", "bits per hidden base in unique DNA, at the end"),
    ("final_all/bits_gained_over_markov", "bits gained over Markov, at the end"),
)
PAGE = "masking baselines"
BY_TOKENS = "by_thousand_tokens"  # prefix of the tags whose steps are thousands of tokens


def custom_scalars_layout(experiment: Experiment) -> dict[str, dict[str, list[Any]]]:
    """The page of the tab Custom Scalars. A chart shows the tags that match its patterns.

    A probed task has a chart of its official metric.
    """
    from cmgems.tasks.lookup import (
        find_tasks,
    )  # torch and numba, which `cmgems compare` does not need

    charts = {title: ["Multiline", [f"{tag}$"]] for tag, title in COMPARED}
    charts["bits per hidden base, and the best Markov model's"] = [
        "Multiline",
        ["validation_random_wide/hidden_base_bits$", "validation_reference/markov_bits$"],
    ]
    for task in find_tasks(*experiment.probe.tasks) if experiment.probe.every_n_steps else ():
        pattern = f"probe/{re.escape(task.name)}/{task.metric}$"
        charts[f"probe: {task.name}, {task.metric}"] = ["Multiline", [pattern]]
    charts["masked fraction in training"] = ["Multiline", ["train/masked_fraction$"]]
    charts["position in the curriculum"] = ["Multiline", ["train/progress$"]]
    for tag, title in COMPARED[:3]:
        charts[f"{title}, against thousands of tokens"] = ["Multiline", [f"{BY_TOKENS}/{tag}$"]]
    return {PAGE: charts}


def hparams_summary(experiment: Experiment) -> Any:
    """The summary of a run's hyper-parameters: every key but those of its name and folder."""
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # slow to import

    values = {name: plain(get_value(experiment, name)) for name in hyper_parameter_keys()}
    return hparams_pb(values, trial_id=experiment.name)


def hyper_parameter_keys() -> list[str]:
    """The dotted keys in which the runs of a sweep can differ."""
    return [
        name for name, _ in iter_keys(Experiment) if name != "name" and not name.startswith("run.")
    ]


def plain(value: Any) -> str | int | float | bool:
    """A value as TensorBoard stores it: lists are joined."""
    return "+".join(map(str, value)) if isinstance(value, tuple) else value


def write_experiment(folder: Path, experiments: Sequence[Experiment]) -> None:
    """Write, into a folder of runs, which keys vary and which metrics the table of runs shows.

    They are those of each run's last validation: TensorBoard shows the last value of a tag.
    """
    # slow to import, and for sweeps alone
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams.summary_v2 import HParam, Metric, hparams_config_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    varied = [
        name
        for name in hyper_parameter_keys()
        if len({plain(get_value(experiment, name)) for experiment in experiments}) > 1
    ]
    metrics = [Metric(tag, display_name=title) for tag, title in (*COMPARED, *FINAL)]
    summary = hparams_config_pb([HParam(name) for name in varied], metrics)
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    writer = EventFileWriter(str(folder))
    writer.add_event(Event(summary=summary))
    writer.close()
