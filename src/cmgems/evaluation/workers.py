"""The batches of an evaluation, one after the other or in several processes."""

from collections.abc import Iterator
from concurrent.futures import as_completed

from cmgems.evaluation import jobs
from cmgems.evaluation.context import JobContext, Result
from cmgems.evaluation.trials import TrialBatch
from cmgems.utils.cores import available_cores
from cmgems.utils.worker_processes import worker_pool


def compute_batches(
    context: JobContext, batches: list[TrialBatch]
) -> Iterator[tuple[TrialBatch, list[Result]]]:
    """The results of all batches as they come, from several processes where that helps."""
    workers = context.evaluation.compute.workers or available_cores()
    workers = min(workers, len(batches))
    if context.device == "cuda" or workers < 2:
        for batch in batches:
            yield batch, jobs.run_trials(context, batch)
        return
    with worker_pool(workers) as pool:
        waiting = {pool.submit(jobs.run_trials, context, batch): batch for batch in batches}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
