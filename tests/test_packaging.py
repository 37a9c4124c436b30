"""The wheel holds everything; the pins agree; README and docs name what exists."""

import configparser
import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DOCS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def pins(lines):
    found = (line.strip().split("==") for line in lines if "==" in line and line[0] != "#")
    return {re.sub("[-_.]+", "-", name).lower(): version for name, version in found}


@pytest.fixture(scope="module")
def setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def requirements(text):
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def test_environment_constraints_and_setup_agree(setup_cfg):
    from packaging.requirements import Requirement

    constraints = pins((ROOT / "constraints.txt").read_text().splitlines())
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = pins(environment[-1]["pip"])
    wanted = [Requirement(r) for r in requirements(setup_cfg["options"]["install_requires"])]
    assert set(conda) == {r.name for r in wanted}
    for requirement in wanted:
        version = constraints[requirement.name]
        assert conda[requirement.name] == version
        assert requirement.specifier.contains(version), requirement
    assert environment[-1]["pip"][-1] == "-e ."


def test_every_pin_but_torch_has_hashes():
    constraints = pins((ROOT / "constraints.txt").read_text().splitlines())
    listed = (ROOT / "hashes.txt").read_text()
    parts = re.findall(
        r"^(\S+==\S+)((?: \\\n +--hash=sha256:[0-9a-f]{64})+)$", listed, re.MULTILINE
    )
    assert pins([pin for pin, _ in parts]) == {
        name: version for name, version in constraints.items() if name != "torch"
    }


def test_ranges_admit_the_versions_that_users_have(setup_cfg):
    from packaging.requirements import Requirement

    by_name = {
        r.name: r.specifier
        for r in map(Requirement, requirements(setup_cfg["options"]["install_requires"]))
    }
    assert all(by_name["torch"].contains(v) for v in ("2.11.0", "2.12.1", "2.13.0"))
    assert not by_name["lightning"].contains("2.6.5")
    assert setup_cfg["options"]["python_requires"] == ">=3.11,<3.14"


def test_pyproject_holds_the_build_system_alone():
    import tomllib

    assert list(tomllib.loads((ROOT / "pyproject.toml").read_text())) == ["build-system"]


def test_wheel_installs_and_every_module_imports(tmp_path):
    """In a clean environment that has the dependencies but not the source tree."""
    run = {"check": True, "capture_output": True, "text": True, "cwd": tmp_path}
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    # From a copy: a build leaves a folder behind, whose old files would be in the next wheel.
    source = tmp_path / "source"
    source.mkdir()
    for name in ("src", "data_modules", "callbacks", "experiments"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.egg-info"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, source], **run)
    (wheel,) = tmp_path.glob("cmgems-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], **run)
    (site,) = (tmp_path / "venv/lib").glob("python3.*/site-packages")
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], **run)
    # A plain path, so that the .pth of the editable install in that folder is not read.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    code = """
import importlib, importlib.util, pathlib, pkgutil, sys, cmgems
package = pathlib.Path(cmgems.__file__).parent
assert package == pathlib.Path(sys.argv[1]) / "cmgems", package
assert (package / "py.typed").is_file()
names = [m.name for m in pkgutil.walk_packages(cmgems.__path__, "cmgems.")]
has_triton = importlib.util.find_spec("triton")  # comes with torch for GPUs alone
for name in names:
    if name != "cmgems.__main__" and (has_triton or name != "cmgems.models.gelu_kernels"):
        importlib.import_module(name)
assert {"cmgems.data_modules.pretraining", "cmgems.callbacks.curriculum"} <= set(names)
print(len(names), cmgems.load_genome("sample").bases)
"""
    python = [tmp_path / "venv/bin/python", "-c", code, str(site)]
    done = subprocess.run(python, **{**run, "check": False})
    assert done.returncode == 0, done.stderr
    modules, bases = map(int, done.stdout.split())
    sources = [
        path
        for folder in ("src/cmgems", "data_modules", "callbacks", "experiments")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert modules == len(sources) - 1  # all but cmgems/__init__.py
    assert bases == 4_000_000


def test_readme_begins_with_the_two_commands_and_names_real_targets():
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    first_block = readme.split("```")[1]
    assert [line.split("#")[0].strip() for line in first_block.strip().splitlines()[1:]] == [
        "make pretrain",
        "make test",
    ]
    for path in DOCS:
        named = set(re.findall(r"(?:^ *|`)make ([a-z-]+)", path.read_text(), re.MULTILINE))
        assert named <= targets, path.name


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_path_in_the_docs_exists(path):
    text = path.read_text()
    folders = "experiments|docs|scripts|src|tests|callbacks|data_modules|benchmarks"
    named = re.findall(rf"(?<![\w/.-])(?:{folders})/[\w./-]+", text)
    missing = [name for name in named if not (ROOT / name.rstrip(".")).exists()]
    # links, and folders of docs/results/ as docs name them, are relative to the file
    relative = re.findall(r"\]\(([^)#:]+)\)|`(results/[\w./-]+)`", text)
    named = [link or folder for link, folder in relative]
    missing += [name for name in named if not (path.parent / name).exists()]
    assert missing == []


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_name_of_code_in_the_docs_exists(path):
    """Modules and what is in them: `cmgems.room.module.name`, and the imports of examples."""
    # without diffs: what they add is not there (tests/test_extending.py applies them)
    text = re.sub(r"```diff\n.*?```", "", path.read_text(), flags=re.DOTALL)
    names = [f"cmgems{dotted}" for dotted in re.findall(r"\bcmgems((?:\.\w+)+)", text)]
    imports = re.findall(r"^(?:>>> )?from (cmgems[\w.]*) import (.+)$", text, re.MULTILINE)
    for module, imported in imports:
        names += [f"{module}.{name.strip()}" for name in imported.split(",")]
    missing = [name for name in names if not exists(name)]
    assert missing == []


def exists(name):
    """Whether this is a module, or a name in one."""
    module, _, attribute = name.rpartition(".")
    try:
        if hasattr(importlib.import_module(module), attribute):
            return True
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_tensorboard_listens_on_loopback_alone():
    makefile = (ROOT / "Makefile").read_text()
    command = re.search(r"^tensorboard:.*\n\t(.*)", makefile, re.MULTILINE)[1]
    assert "--host 127.0.0.1 " in command
    for path in (ROOT / "Makefile", *DOCS, *(ROOT / "src").rglob("*.py")):
        assert "bind_all" not in path.read_text(), path


def test_what_holds_faults_off_is_tested():
    """Each row of docs/reliability.md names its test."""
    page = (ROOT / "docs/reliability.md").read_text().partition("| kind |")[2].partition("\n\n")[0]
    rows = page.splitlines()[2:]
    assert len(rows) > 15
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)`", row.rpartition(" | ")[2])
        assert named, row
        assert all((ROOT / name).exists() for name in named), row


def test_ci_calls_make_lint_and_make_test():
    assert (ROOT / ".ci/run").read_text().splitlines()[-2:] == ["make lint", "make test"]


def test_files_for_others_tools_agree_with_the_package(setup_cfg):
    """Their readers are not at hand in a test: a forge, managers of citations and hooks."""
    import cmgems

    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    job = workflow["jobs"]["test"]
    assert job["steps"][-1]["run"] == "bash .ci/run"
    admitted = re.findall(r"Python :: (3\.\d+)", setup_cfg["metadata"]["classifiers"])
    assert job["strategy"]["matrix"]["python"] == admitted
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == cmgems.__version__ == setup_cfg["metadata"]["version"]
    assert citation["references"][0]["title"].startswith("Unlocking Efficiency: Adaptive Masking")
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert hook["entry"] == "make lint"


def test_the_site_has_every_page_and_its_packages_are_pinned(setup_cfg):
    """`make docs` itself needs packages that are not installed for the tests."""
    from packaging.requirements import Requirement

    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    listed = set(re.findall(r"[\w/]+\.md", str(site["nav"])))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= listed
    extras = setup_cfg["options.extras_require"]
    constraints = pins((ROOT / "constraints.txt").read_text().splitlines())
    for requirement in map(Requirement, requirements(extras["docs"])):
        assert requirement.specifier.contains(constraints[requirement.name]), requirement
        assert requirement.name not in extras["dev"]


def test_the_container_gets_all_that_the_package_is_built_from(setup_cfg):
    dockerfile = (ROOT / "Dockerfile").read_text()
    copied = {
        word
        for line in re.findall(r"^COPY (.*) \S+$", dockerfile, re.MULTILINE)
        for word in line.split()
    }
    folders = setup_cfg["options"]["package_dir"].strip().splitlines()
    sources = {line.split("= ")[1].split("/")[0] for line in folders}
    needed = {*sources, "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "constraints.txt"}
    assert copied == needed
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    assert allowed == needed
    torch = pins((ROOT / "constraints.txt").read_text().splitlines())["torch"]
    assert f"torch=={torch} ." in dockerfile
