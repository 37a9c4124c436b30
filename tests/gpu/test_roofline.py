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


def test_docs_have_what_follows_from_their_own_figures():
    """Tokens per second from the milliseconds, and hours and dollars from those."""
    rows = {}
    for line in (ROOT / "docs/scaling.md").read_text().split(roofline.BEGIN)[1].splitlines():
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        if cells and ", " in name and name.split(", ")[1].isdigit():
            rows.setdefault(name, []).append([cell.rstrip("kBMG% ") for cell in cells])
    assert list(rows) == [f"{preset}, {windows}" for preset, windows in roofline.CASES]
    for name, (model, cost) in rows.items():
        windows = int(name.split(", ")[1])
        tokens = float(cost[0]) * 1e9 / roofline.RUN * windows
        *parts, host = map(float, model[4:9])
        speed, hours, dollars = float(model[9]), float(cost[3]), float(cost[4])
        assert speed == pytest.approx(tokens / 1e3 / max(host, sum(parts)), rel=0.03), name
        assert float(cost[1]) == speed
        assert hours == pytest.approx(float(cost[0]) / 3.6 / speed, rel=0.01), name
        assert dollars == pytest.approx(hours * roofline.PRICE["H100"], rel=0.06), name


def test_one_hour_costs_its_price():
    step = roofline.Step(1000, [], 1)
    speed = roofline.tokens_per_second(step, roofline.BANDWIDTH["H100"])
    windows = roofline.RUN * 1000 / speed / 3600  # as many per step that a run takes an hour
    cells = roofline.cost_row("logo", windows, step, 0.1 * roofline.PEAK / speed).split("|")
    assert [cell.strip() for cell in cells[4:7]] == ["10%", "1", f"{roofline.PRICE['H100']:g}"]
