"""Where a resumed run goes on, whatever the number of processes that it had before."""

from typing import Any


def renumber_progress(checkpoint: dict[str, Any], micro_batches_per_step: int) -> None:
    """Count the progress in a checkpoint in micro-batches of a rank of this session.

    Lightning saves how many micro-batches a rank has taken, and from that number it tells the end
    of a step, of the epoch and the time of a validation. With another number of ranks a step has
    other micro-batches: they follow from the steps taken. A run is one epoch.

    Parameters
    ----------
    checkpoint : dict
        As Lightning saves it, between two steps; changed in place.
    micro_batches_per_step : int
        Of a rank, now.
    """
    loop = checkpoint["loops"]["fit_loop"]
    taken = checkpoint["global_step"] * micro_batches_per_step
    progress = loop["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        # A checkpoint made within the hooks behind its last micro-batch has not completed it.
        open_ones = counts["ready"] - counts["completed"]
        counts |= {"ready": taken, "started": taken, "processed": taken}
        counts["completed"] = taken - open_ones
    for counts in (loop["epoch_progress"]["total"], loop["epoch_progress"]["current"]):
        counts |= {"ready": 1, "started": 1, "processed": 0, "completed": 0}
