"""`cmgems doctor`: what this installation has, and what is wrong with it."""

import argparse
import platform
import shutil
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from cmgems import __version__
from cmgems.errors import RunFailed, UserError
from cmgems.utils.cache_folder import cache_folder
from cmgems.utils.cores import available_cores
from cmgems.utils.outputs import check_output_folder
from cmgems.utils.text_table import text_table

DESCRIPTION = """\
Show versions, devices, the cache and optional extras of this installation, for a report of a fault
and before a long run. Exit code 1 if something would keep a run from working.
"""
EXAMPLES = """\
examples:
  cmgems doctor > doctor.txt
"""
NOT_EXTRAS = (
    "dev",
    "docs",
    "notebooks",
    "peers",
)  # for those who change cmgems, its site and its benchmarks


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES


def run(args: argparse.Namespace) -> None:
    packages, problems = package_rows(metadata.requires("cmgems") or [])
    cache, cache_problems = cache_row(cache_folder())
    problems += cache_problems
    rows = [
        ("cmgems", __version__),
        ("Python", f"{platform.python_version()}, {platform.platform()}"),
        *packages,
        *device_rows(),
        cache,
    ]
    print(text_table(rows))
    if problems:
        raise RunFailed("\n".join(problems))
    print("\nNothing is missing that a run needs.")


def package_rows(requirements: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """What is installed of the packages that cmgems needs, and of its extras.

    Parameters
    ----------
    requirements : list of str
        As in the package's metadata: `torch<2.14,>=2.11`, `optuna<6; extra == "search"`.

    Returns
    -------
    rows : list of (name, version and what is wanted)
    problems : list of str
        A line for each package that has to be there and is not, or has another version.
    """
    rows, problems = [], []
    for requirement in map(Requirement, requirements):
        extra = _extra(requirement)
        if extra in NOT_EXTRAS:
            continue
        version = _installed(requirement.name)
        wanted = f"wanted {requirement.specifier}"
        if version is None:
            state = "not installed"
        elif requirement.specifier.contains(version, prereleases=True):
            state = version
        else:
            state = f"{version}, {wanted}"
        if extra:
            rows.append((requirement.name, f"{state} (extra: pip install 'cmgems[{extra}]')"))
            continue
        rows.append((requirement.name, state))
        if state != version:
            problems.append(f"{requirement.name}: found {version or 'nothing'}, {wanted}")
    return rows, problems


def _extra(requirement: Requirement) -> str:
    """The extra that a requirement belongs to; empty for one that is always installed."""
    marker = str(requirement.marker or "")
    return marker.partition("extra == ")[2].strip("\"'")


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def device_rows() -> list[tuple[str, str]]:
    """What a run can compute on, with memory and whether its products are fast in bf16."""
    import torch

    from cmgems.cost.device import device_memory, device_name
    from cmgems.evaluation.run import has_bf16_products

    bf16 = "products in bf16" if has_bf16_products("cpu") else "no products in bf16"
    memory = device_memory(torch.device("cpu")).total
    rows = [("CPU", f"{available_cores()} cores, {_gib(memory)} memory, {bf16}")]
    for index in range(torch.cuda.device_count()):
        gpu = torch.device("cuda", index)
        rows.append((f"GPU {index}", f"{device_name(gpu)}, {_gib(device_memory(gpu).total)}"))
    if len(rows) == 1:
        built = torch.version.cuda
        why = f"none found by CUDA {built}" if built else "none: this torch is built without CUDA"
        rows.append(("GPU", why))
    return rows


def cache_row(folder: Path) -> tuple[tuple[str, str], list[str]]:
    """Where converted genomes and tables lie, and what keeps them from being written there."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    row = ("cache", f"{folder}, {_gib(shutil.disk_usage(existing).free)} free")
    try:
        check_output_folder(folder, "CMGEMS_CACHE")
    except UserError as error:
        return row, [str(error)]
    return row, []


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
