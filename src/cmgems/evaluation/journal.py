"""The scores of an evaluation so far: one line of JSON each, added when a batch is done.

A line carries a key, the hash of everything that its scores depend on: weights, examples, recipe,
arithmetic and the other trials of its batch. So one folder serves an evaluation that grows, and a
score of other settings is never taken for one of these.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cmgems.errors import UserError
from cmgems.evaluation.context import Result
from cmgems.evaluation.metrics import Scores
from cmgems.evaluation.trials import TrialSpec

FORMAT = 1  # raised when the same settings would give other scores


def hash_parts(**parts: Any) -> str:
    """A hash of values that JSON can hold."""
    text = json.dumps({"format": FORMAT, **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class Journal:
    """Results by key; a line that was cut off by a kill is dropped, and its batch done again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: dict[str, list[Result]] = {}
        if not path.exists():
            return
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(path, len(whole))
        for number, line in enumerate(whole.decode().splitlines(), 1):
            try:
                entry = json.loads(line)
                self.results[entry["key"]] = [_from_json(result) for result in entry["results"]]
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path}: line {number}: found no scores of this version of cmgems, wanted "
                    f"another run.dir or this file removed"
                ) from error

    def add(self, key: str, results: list[Result]) -> None:
        """Append a line and wait until it is on disk."""
        line = json.dumps({"key": key, "results": [to_json(result) for result in results]})
        with open(self.path, "a") as handle:
            handle.write(f"{line}\n")
            handle.flush()
            os.fsync(handle.fileno())
        self.results[key] = results


def to_json(result: Result) -> dict[str, Any]:
    """A result as JSON can hold it: without nan."""
    return {
        **result.trial._asdict(),
        "scores": {**result.scores.metrics(), "count": result.scores.count},
        "collapsed": result.scores.collapsed,
        "loss": None if result.loss != result.loss else result.loss,
        "seconds": result.seconds,
        "chosen": result.chosen,
    }


def _from_json(entry: dict[str, Any]) -> Result:
    return Result(
        TrialSpec(**{name: entry[name] for name in TrialSpec._fields}),
        Scores(**entry["scores"], collapsed=entry["collapsed"]),
        float("nan") if entry["loss"] is None else entry["loss"],
        entry["seconds"],
        entry["chosen"],
    )
