"""The scores of an evaluation so far: one line of JSON each, added when a batch is done.

A line carries a key, the hash of everything that its figure depends on: weights, examples, recipe,
arithmetic and the other trials of its batch. So one folder serves an evaluation that grows, and a
figure of another setting is never taken for one of this.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cmgems.evaluation.jobs import Result
from cmgems.evaluation.metrics import Scores
from cmgems.evaluation.trials import TrialSpec

FORMAT = 1  # raised when the same settings would give other figures


def hash_parts(**parts: Any) -> str:
    """A hash of plain values."""
    text = json.dumps({"format": FORMAT, **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class Journal:
    """Results by key; a line that was cut off by a kill is dropped, and its batch done again."""

    def __init__(self, path: Path):
        self.path = path
        self.results: dict[str, list[Result]] = {}
        if not path.exists():
            return
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(path, len(whole))
        for line in whole.decode().splitlines():
            found = json.loads(line)
            self.results[found["key"]] = [_result(entry) for entry in found["results"]]

    def add(self, key: str, results: list[Result]) -> None:
        """Append, synced."""
        line = json.dumps({"key": key, "results": [to_json(result) for result in results]})
        with open(self.path, "a") as handle:
            handle.write(f"{line}\n")
            handle.flush()
            os.fsync(handle.fileno())
        self.results[key] = results


def to_json(result: Result) -> dict[str, Any]:
    """A result as JSON has it."""
    return {
        **result.trial._asdict(),
        "scores": {**result.scores.metrics(), "count": result.scores.count},
        "collapsed": result.scores.collapsed,
        "loss": None if result.loss != result.loss else result.loss,
        "seconds": result.seconds,
        "chosen": result.chosen,
    }


def _result(entry: dict[str, Any]) -> Result:
    return Result(
        TrialSpec(**{name: entry[name] for name in TrialSpec._fields}),
        Scores(**entry["scores"], collapsed=entry["collapsed"]),
        float("nan") if entry["loss"] is None else entry["loss"],
        entry["seconds"],
        entry["chosen"],
    )
