"""The number of processor cores."""

import os


def available_cores() -> int:
    """The cores that this process may use, or all of the machine where that is not known."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
