"""The script for a GPU runs on a CPU, so that it is not broken when there is a GPU at last."""

import json
import sys

import pytest
from helpers.paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))
import gpu_check
import gpu_parts


def test_every_part_is_rehearsed_and_written(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_parts, "RANKS", 1)  # a second one takes seconds to start
    assert gpu_check.main(["--rehearse", "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "gpu_check.json").read_text())
    assert list(results["parts"]) == list(gpu_check.PARTS)
    assert all(row["ok"] for rows in results["parts"].values() for row in rows)
    table = (tmp_path / "gpu_check.md").read_text()
    assert "| masks of global_pmi | True |" in table
    assert "## training" in table


@pytest.mark.parametrize("minutes", ["0", "9"])
def test_a_part_that_fails_or_has_no_time_leaves_the_others(minutes, tmp_path, monkeypatch):
    def fails(size):
        raise ValueError("no such kernel")

    parts = {"first": (fails, 0.0), "second": (lambda size: [{"ok": True}], 5.0)}
    monkeypatch.setattr(gpu_check, "PARTS", parts)
    monkeypatch.setattr(gpu_check.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu_check.torch.cuda, "get_device_name", lambda: "H100")
    assert gpu_check.main(["--minutes", minutes, "--out", str(tmp_path)]) == 1
    found = json.loads((tmp_path / "gpu_check.json").read_text())["parts"]
    late = [{"left_out": "no time was left", "ok": False}]
    assert found["second"] == (late if minutes == "0" else [{"ok": True}])
    assert minutes == "0" or found["first"][0]["error"] == "ValueError: no such kernel"
