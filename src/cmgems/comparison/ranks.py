"""Where experiments stand among one another, over several labelled tasks."""

import numpy as np

from cmgems.comparison.metrics import Metric, final_value
from cmgems.comparison.records import Group
from cmgems.utils.intervals import Interval, mean_interval


def mean_ranks(groups: list[Group], metrics: list[Metric]) -> list[Interval]:
    """The mean over tasks of a group's rank among the groups (1: the best; equal ones share the
    mean of theirs), one per group; the interval is over the seeds that all groups have (Student).

    Parameters
    ----------
    metrics : one per task; a lower or a higher value may be the better one
    """
    by_seed = [{run.experiment.seed: run for run in group.runs} for group in groups]
    seeds = sorted(set.intersection(*(set(runs) for runs in by_seed)))
    if not seeds:
        return [Interval(np.nan, np.nan, np.nan, 0)] * len(groups)
    values_GST = np.array(
        [
            [
                [final_value(runs[seed], m) * (1 if m.lower_is_better else -1) for m in metrics]
                for seed in seeds
            ]
            for runs in by_seed
        ]
    )
    better_GST = (values_GST[None] < values_GST[:, None]).sum(1)
    equal_GST = (values_GST[None] == values_GST[:, None]).sum(1)  # itself too
    ranks_GST = better_GST + (equal_GST + 1) / 2
    return [mean_interval(ranks_S) for ranks_S in ranks_GST.mean(2)]
