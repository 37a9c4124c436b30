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
KERNELS = Path(__file__).with_name("cases_of_kernels.py")
WHOLE = "CMGEMS_GPU_PATH" in os.environ  # make test-gpu-path


def test_without_a_gpu():
    """All in one process: what each imports takes longer than most cases. `make test` leaves out
    the one of what a step keeps."""
    run(CASES, *(() if WHOLE else ("-k", "not keeps")))


@pytest.mark.skipif(not WHOLE, reason="make test-gpu-path runs it")
@pytest.mark.parametrize("interpreted", ["0", "1"], ids=["compiled", "interpreted"])
def test_kernels(interpreted):
    run(KERNELS, TRITON_INTERPRET=interpreted)


def run(cases, *arguments, **environment):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", cases, *arguments]
    environment = os.environ | environment
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    print(done.stdout[-3000:])  # of a test that failed; with -s how many there were
    skipped = re.search(r"^SKIPPED \[\d+\] \S+ (.*)$", done.stdout, re.MULTILINE)
    if skipped and " passed" not in done.stdout:
        pytest.skip(skipped[1])
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr[-1000:]}"
