"""`cmgems doctor`: what is installed is compared with what is wanted."""

from importlib import metadata
from pathlib import Path

from cmgems.cli import main
from cmgems.commands.doctor import cache_row, package_rows


def test_names_every_package_with_its_version(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("CMGEMS_CACHE", str(tmp_path / "not" / "yet"))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    rows = dict(line.split(maxsplit=1) for line in out.splitlines() if "  " in line)
    for name in ("torch", "lightning", "numba", "tokenizers"):
        assert rows[name] == metadata.version(name)
    assert rows["optuna"].endswith("(extra: pip install 'cmgems[search]')")
    assert rows["cache"].startswith(f"{tmp_path}/not/yet, ")
    assert "pytest" not in rows  # of those who change cmgems
    assert out.endswith("Nothing is missing that a run needs.\n")


def test_a_missing_or_other_package_is_a_problem_and_an_extra_is_not():
    numpy = metadata.version("numpy")
    rows, problems = package_rows(
        ["numpy<1", "no-such-package>=2", "numpy>=1", 'no-such-extra<3; extra == "search"']
    )
    assert rows == [
        ("numpy", f"{numpy}, wanted <1"),
        ("no-such-package", "not installed"),
        ("numpy", numpy),
        ("no-such-extra", "not installed (extra: pip install 'cmgems[search]')"),
    ]
    assert problems == [
        f"numpy: found {numpy}, wanted <1",
        "no-such-package: found nothing, wanted >=2",
    ]


def test_a_problem_ends_with_exit_code_1(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CMGEMS_CACHE", str(tmp_path / "file"))
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == (
        f"cmgems doctor: CMGEMS_CACHE: {tmp_path}/file is a file, wanted a folder\n"
    )
    assert cache_row(Path(tmp_path))[1] == []
