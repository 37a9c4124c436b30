"""How a trial of the soak ends."""

from typing import NamedTuple

HELD, LOST, SILENT, TRACEBACK = "held", "lost", "silent", "traceback"


class Trial(NamedTuple):
    outcome: str  # HELD, LOST, SILENT or TRACEBACK
    note: str
    count: int = 1  # kills, inputs, steps, ... that were tried in it
