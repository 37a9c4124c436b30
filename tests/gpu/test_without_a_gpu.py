"""What a GPU would run, without one: the cases of `cases_without_a_gpu.py`.

The guard that torch lacks in a build without CUDA is set for a whole process: tests after them
have ended in a segmentation fault there, and after many of them so have these. What a process
imports takes longer than most cases, so `make test` tries its few in one.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("cases_without_a_gpu.py")
KERNELS = Path(__file__).with_name("cases_of_kernels.py")
NAMES = re.findall(r"^def (test_\w+)", CASES.read_text(), re.MULTILINE)
WHOLE = "CMGEMS_GPU_PATH" in os.environ  # make test-gpu-path
QUICK = [name for name in NAMES if name != "test_a_step_keeps_what_the_plan_says"]


@pytest.mark.parametrize("names", [[name] for name in NAMES] if WHOLE else [QUICK], ids=len)
def test_without_a_gpu(names):
    done = run(CASES, names)
    if done.returncode < 0:  # torch has crashed: each case in a process of its own tells
        for case in cases_of(names):
            judge(run(CASES, [case]))
    else:
        judge(done)


@pytest.mark.skipif(not WHOLE, reason="make test-gpu-path runs it")
@pytest.mark.parametrize("interpreted", ["0", "1"], ids=["compiled", "interpreted"])
def test_kernels(interpreted):
    judge(run(KERNELS, [], TRITON_INTERPRET=interpreted))


def run(cases, names, **environment):
    selected = [f"{cases}::{name}" for name in names] or [cases]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", *selected]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


def cases_of(names):
    """Each function with each of its parameters: `test_name[parameter]`."""
    found = run(CASES, names, PYTEST_ADDOPTS="--collect-only").stdout
    cases = re.findall(r"::(test_\S+)$", found, re.MULTILINE)
    assert cases, found
    return cases


def judge(done):
    print(done.stdout[-3000:])  # of a test that failed; with -s how many there were
    skipped = re.search(r"^SKIPPED \[\d+\] \S+ (.*)$", done.stdout, re.MULTILINE)
    if skipped and " passed" not in done.stdout:
        pytest.skip(skipped[1])
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr[-1000:]}"
