"""Mean ranks over labelled tasks, against ranks that are counted by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from cmgems.comparison.metrics import Metric
from cmgems.comparison.ranks import mean_ranks

ACCURACY = Metric("scored_probe/a/accuracy", "a", lower_is_better=False)
ERROR = Metric("scored_probe/b/mse", "b", lower_is_better=True)


def group(*scores):
    """Runs of seeds 0, 1, ... with (accuracy, error) each; None: a seed that it has not."""
    runs = [
        SimpleNamespace(
            experiment=SimpleNamespace(seed=seed),
            curves={
                metric.tag: SimpleNamespace(values=np.array([value]))
                for metric, value in zip((ACCURACY, ERROR), pair, strict=True)
            },
        )
        for seed, pair in enumerate(scores)
        if pair
    ]
    return SimpleNamespace(runs=runs)


def test_the_best_of_a_task_has_rank_1_and_equal_ones_share():
    groups = [
        group((0.9, 0.2), (0.8, 0.1)),  # ranks 1 and 1.5; 1 and 1
        group((0.7, 0.2), (0.5, 0.3)),  # 2.5 and 1.5; 3 and 3
        group((0.7, 0.5), (0.6, 0.2)),  # 2.5 and 3; 2 and 2
    ]
    ranks = mean_ranks(groups, [ACCURACY, ERROR])
    assert [rank.mean for rank in ranks] == [1.125, 2.5, 2.375]
    assert [rank.count for rank in ranks] == [2, 2, 2]
    # Student with one degree of freedom: 12.706 times the standard error.
    assert ranks[1].high - ranks[1].mean == pytest.approx(12.706 * 0.5, rel=1e-4)


def test_seeds_that_one_has_not_do_not_count():
    groups = [group((0.9, 0.2), (0.1, 0.9)), group((0.8, 0.3), None)]
    assert [rank.mean for rank in mean_ranks(groups, [ACCURACY, ERROR])] == [1.0, 2.0]
    nothing_shared = [group(None, (0.9, 0.2)), group((0.8, 0.3), None)]
    assert all(np.isnan(rank.mean) for rank in mean_ranks(nothing_shared, [ACCURACY]))
