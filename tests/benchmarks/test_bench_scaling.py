"""The model of communication against compute keeps what must hold of any such model."""

import sys

import pytest
from helpers.paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))
from bench_scaling import GPUS, Hardware, step_time

HARDWARE = Hardware(flops=1e14, node=8, inside=4e11, network=5e10, latency=1e-5)


def test_one_gpu_sums_nothing():
    time = step_time(1e12, 4e8, 1, HARDWARE)
    assert time == (0.01, 0.0, 0.0)
    assert time.efficiency == 1


def test_a_sum_sends_every_byte_twice():
    """By hand: 4e8 bytes over 2 machines of 8 GPUs."""
    near, far = 2 * 7 / 8 * 4e8 / 4e11, 2 * 1 / 2 * 4e8 / 8 / 5e10
    latency = 2 * 4 * 1e-5
    assert step_time(1e12, 4e8, 16, HARDWARE).sums == pytest.approx(near + far + latency)


def test_more_gpus_are_never_more_efficient_and_arithmetic_hides_sums():
    times = [step_time(1e12, 4e8, gpus, HARDWARE) for gpus in GPUS]
    efficiencies = [time.efficiency for time in times]
    assert efficiencies == sorted(efficiencies, reverse=True)
    assert all(0 < time.exposed <= time.sums for time in times[1:])
    small = step_time(1e10, 4e8, 64, HARDWARE)  # a hundredth of the arithmetic hides little
    assert small.efficiency < 0.1 < times[4].efficiency
