"""What a GPU would run, without one: the cases of `cases_without_a_gpu.py`.

The guard that torch lacks in a build without CUDA is set for a whole process: tests after them
have ended in a segmentation fault there, and these too in other company than here.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("cases_without_a_gpu.py")
NAMES = set(re.findall(r"^def (test_\w+)", CASES.read_text(), re.MULTILINE))
PROCESSES = [
    ["test_a_family_trains_without_waiting_and_compiles_once"],
    ["test_no_strategy_waits_and_no_ramp_compiles"],
    ["test_what_waits_for_the_gpu_is_found", "test_a_step_keeps_what_the_plan_says"],
]
QUICK = PROCESSES[:2]  # what `make test` tries of them


def test_every_case_has_a_process():
    assert {name for names in PROCESSES for name in names} == NAMES


@pytest.mark.parametrize("names", PROCESSES, ids=lambda names: names[0])
def test_without_a_gpu(names):
    if "CMGEMS_GPU_PATH" not in os.environ and names not in QUICK:
        pytest.skip("make test-gpu-path runs it")
    cases = [f"{CASES}::{name}" for name in names]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", *cases]
    done = subprocess.run(command, capture_output=True, text=True)
    skipped = re.search(r"^SKIPPED \[\d+\] \S+ (.*)$", done.stdout, re.MULTILINE)
    if skipped and " passed" not in done.stdout:
        pytest.skip(skipped[1])
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout[-3000:]}"
