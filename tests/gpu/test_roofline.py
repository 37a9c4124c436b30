"""The arithmetic of the roofline."""

import sys

import pytest
from helpers.paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))
import roofline


def test_the_slower_of_gpu_and_host_bounds_a_step():
    kernel = roofline.Kernel("product", "", 0, roofline.PEAK * roofline.OF_PRODUCTS)
    step = roofline.Step(1000, [kernel], 1)
    one = 1 + roofline.SHORTEST * roofline.OPTIMIZER_LAUNCHES
    assert roofline.tokens_per_second(step, 1e12) == pytest.approx(1000 / one)
    step = roofline.Step(1000, [kernel._replace(flops=0.0)] * 100, 1)
    host = 108 * roofline.LAUNCH
    assert roofline.tokens_per_second(step, 1e12) == pytest.approx(1000 / host)
