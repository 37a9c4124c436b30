"""`cmgems experiments`: files of the package are found by name, from any folder."""

from pathlib import Path

import pytest

from cmgems.cli import main
from cmgems.config.shipped import experiment_file, shipped_experiments
from cmgems.errors import UserError
from cmgems.runs.experiment import diff, load

ROOT = Path(__file__).parents[2] / "experiments"


def test_every_file_is_listed_with_its_first_sentence(capsys):
    assert main(["experiments", "list"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["experiment", "what", "it", "is"]
    names = {f"{path.parent.name}/{path.stem}" for path in ROOT.glob("*/*.yaml")}
    assert {line.split()[0] for line in lines} == names
    assert "pretrain/random" in names
    sentences = [line.split(maxsplit=1)[1] for line in lines]
    assert "DNABERT: k contiguous tokens around random centres" in sentences
    assert all(10 < len(sentence) <= 90 for sentence in sentences)


def test_a_name_stands_for_its_file_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_name = load("cm_gems")
    assert by_name.name == "cm_gems"
    assert diff(by_name, load(ROOT / "pretrain" / "cm_gems.yaml")) == []
    assert experiment_file("finetune/quickstart", "pretrain").samefile(
        ROOT / "finetune/quickstart.yaml"
    )
    assert experiment_file("quickstart", "finetune").samefile(ROOT / "finetune/quickstart.yaml")
    # What lies in the user's folder comes first.
    (tmp_path / "cm_gems").write_text("seed: 7\n")
    assert load("cm_gems").seed == 7


@pytest.mark.parametrize("name", ["no_such", "pretrain/no_such", ""])
def test_an_unknown_name_is_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name:
        with pytest.raises(UserError, match="no such file or experiment, wanted a YAML file, or"):
            experiment_file(name, "pretrain")
    else:  # the path of the folder itself
        with pytest.raises(UserError, match="not a file"):
            load(name)


def test_a_copy_is_whole_and_replaces_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["experiments", "copy", "sweep/evidence_bases", "mine"]) == 0
    copied = capsys.readouterr().out.split()
    assert copied == [
        "mine/sweep/evidence_bases.yaml", "mine/pretrain/bases.yaml", "mine/pretrain/base.yaml",
    ]  # fmt: skip
    for name in copied:
        assert Path(name).read_bytes() == (ROOT / Path(name).relative_to("mine")).read_bytes()
    assert diff(load("mine/pretrain/bases.yaml"), load("bases")) == []
    Path(copied[-1]).write_text("seed: 1\n")
    assert main(["experiments", "copy", "pretrain/random", "mine"]) == 2
    assert "mine/pretrain/base.yaml: is there already" in capsys.readouterr().err
    assert not Path("mine/pretrain/random.yaml").exists()  # all or none
    assert Path(copied[-1]).read_text() == "seed: 1\n"


def test_show_prints_the_file_and_asks_where_two_have_a_name(capsys):
    assert main(["experiments", "show", "cm_step"]) == 0
    assert capsys.readouterr().out == (ROOT / "pretrain/cm_step.yaml").read_text()
    assert main(["experiments", "show", "quickstart"]) == 2
    error = capsys.readouterr().err
    assert "wanted one of pretrain/quickstart, finetune/quickstart" in error
    assert len(shipped_experiments()) == len(list(ROOT.glob("*/*.yaml")))
