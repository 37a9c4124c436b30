"""What makes runs comparable in TensorBoard: a page of charts and the table of hyper-parameters."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cmgems.config.schema import Experiment, get_value, iter_keys

# Figures that compare across maskings: under masks that are the same for all runs, or downstream.
COMPARED = (
    ("validation_random/perplexity", "perplexity, random masks"),
    ("validation_random_wide/perplexity", "perplexity, wide random masks"),
    ("validation_random_wide/hidden_base_bits", "bits a hidden base"),
    ("validation_random_wide/hidden_base_accuracy", "accuracy on hidden bases"),
)
PAGE = "masking baselines"
BY_TOKENS = "by_thousand_tokens"  # in front of the tags whose steps are thousands of tokens


def layout(experiment: Experiment) -> dict[str, dict[str, list]]:
    """The page of the tab Custom Scalars. A chart shows the tags that match its patterns.

    Of the figures of a probed task it shows the official metric.
    """
    from cmgems.tasks.lookup import find_tasks

    charts = {title: ["Multiline", [f"{tag}$"]] for tag, title in COMPARED}
    charts["bits a hidden base, and the best Markov model's"] = [
        "Multiline",
        ["validation_random_wide/hidden_base_bits$", "validation_reference/markov_bits$"],
    ]
    for one in find_tasks(*experiment.probe.tasks) if experiment.probe.every_n_steps else ():
        pattern = f"probe/{re.escape(one.name)}/{one.metric}$"
        charts[f"probe: {one.name}, {one.metric}"] = ["Multiline", [pattern]]
    charts["masked share in training"] = ["Multiline", ["train/masked_fraction$"]]
    charts["place in the curriculum"] = ["Multiline", ["train/progress$"]]
    for tag, title in COMPARED[:3]:
        charts[f"{title}, against thousands of tokens"] = ["Multiline", [f"{BY_TOKENS}/{tag}$"]]
    return {PAGE: charts}


def session_start(experiment: Experiment) -> Any:
    """The summary that names a run's hyper-parameters: every key but where the run lies."""
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    values = {name: plain(get_value(experiment, name)) for name in compared_keys()}
    return hparams_pb(values, trial_id=experiment.name)


def compared_keys() -> list[str]:
    return [name for name, _ in iter_keys() if name != "name" and not name.startswith("run.")]


def plain(value: Any) -> str | int | float | bool:
    return "+".join(map(str, value)) if isinstance(value, tuple) else value


def write_experiment(folder: Path, experiments: Sequence[Experiment]) -> None:
    """Say, in a folder of runs, which keys vary and which figures the table has.

    The figures are those of each run's last validation: TensorBoard takes the last value of a tag.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams.summary_v2 import HParam, Metric, hparams_config_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    varied = [
        name
        for name in compared_keys()
        if len({plain(get_value(experiment, name)) for experiment in experiments}) > 1
    ]
    metrics = [Metric(tag, display_name=title) for tag, title in COMPARED]
    summary = hparams_config_pb([HParam(name) for name in varied], metrics)
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    writer = EventFileWriter(str(folder))
    writer.add_event(Event(summary=summary))
    writer.close()
