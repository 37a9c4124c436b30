"""The diffs of docs/extending.md apply to the code as it is, and what they add works."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from helpers.paths import ROOT

PAGE = (ROOT / "docs/extending.md").read_text()
DIFFS = re.findall(r"^```diff\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
# The tests of all of a kind, of which those of what is added are run.
ADDED = [
    "tests/masking/test_strategies.py",
    "tests/curriculum/test_schedule.py",
    "tests/models/test_encoder_variants.py",
    "tests/hub/test_own_format.py",
    "tests/tasks/test_tasks.py",
    "tests/callbacks/test_weight_norm.py",
]
NAMES = (
    "(pairs and reference) or test_shapes or (squared_relu and post-alibi) or every_choice"
    " or registry or weights_is_logged"
)


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the repository with all of them applied."""
    copy = tmp_path_factory.mktemp("extended")
    for folder in ("src", "callbacks", "data_modules", "tests", "scripts", "experiments", "docs"):
        skipped = shutil.ignore_patterns("*.pyc", "*.egg-info", "results")  # kernels stay compiled
        shutil.copytree(ROOT / folder, copy / folder, ignore=skipped)
    shutil.copy(ROOT / "setup.cfg", copy)
    # Outside a git repository git apply changes files alone.
    for diff in DIFFS:
        done = subprocess.run(
            ["git", "apply", "--verbose", "-"],
            cwd=copy,
            input=diff,
            text=True,
            capture_output=True,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(copy.parent)},
        )
        assert done.returncode == 0, done.stderr
    return copy


def test_the_page_has_a_diff_for_each_kind_that_is_code():
    assert len(DIFFS) == 5


def test_what_the_diffs_add_passes_its_tests(extended):
    tree = subprocess.run(
        ["bash", "scripts/package_tree.sh"],
        cwd=extended,
        text=True,
        capture_output=True,
        check=True,
    ).stdout.strip()
    command = [sys.executable, "-m", "pytest", "-vv", "-p", "no:cacheprovider", "-k", NAMES, *ADDED]
    done = subprocess.run(
        command,
        cwd=extended,
        text=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": tree, "CI": "true"},
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    passed = [line for line in done.stdout.splitlines() if "PASSED" in line]
    for new in ("pairs", "quadratic", "squared_relu", "registry", "weights_is_logged"):
        assert any(new in line for line in passed), new
