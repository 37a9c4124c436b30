"""How many processor cores there are for us."""

import os


def available_cores() -> int:
    """The cores that this process may use; all of the machine where the system cannot say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
