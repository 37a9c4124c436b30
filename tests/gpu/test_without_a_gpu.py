"""What a GPU would run, without one: the cases of `cases_without_a_gpu.py`.

The guard that torch lacks in a build without CUDA is set for a whole process, and several cases in
one process, or other tests after them, have ended in a segmentation fault: each has its own.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("cases_without_a_gpu.py")
NAMES = re.findall(r"^def (test_\w+)", CASES.read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_gpu(name):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", f"{CASES}::{name}"]
    done = subprocess.run(command, capture_output=True, text=True)
    skipped = re.search(r"^SKIPPED \[\d+\] \S+ (.*)$", done.stdout, re.MULTILINE)
    if skipped and " passed" not in done.stdout:
        pytest.skip(skipped[1])
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout[-3000:]}"
