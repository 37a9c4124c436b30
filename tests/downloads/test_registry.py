"""The registry of public data: every entry is usable, and tasks find what is fetched."""

import re

import pytest
from helpers.paths import ROOT

from cmgems.cli import main
from cmgems.commands.data import compared_with
from cmgems.downloads.fetch import data_folder
from cmgems.downloads.registry import datasets, find_dataset, is_genome
from cmgems.errors import UserError
from cmgems.tasks.published import TASKS
from cmgems.tasks.splits import read_split

PAGE = ROOT / "docs/data.md"


def all_files():
    for dataset in datasets().values():
        yield from dataset.files
        for contig in dataset.contigs:
            yield from dataset.contig(contig).files


def test_entries_are_whole():
    known = datasets()
    genomes = {name for name in known if is_genome(name)}
    assert genomes == {
        "hg38", "hg19", "T2T-CHM13", "mm39", "dm6", "ce11", "sacCer3", "TAIR10", "ecoli-K12",
    }  # fmt: skip
    assert set(known) - genomes == {"fewshot", "silencer", "gue", "genomic_benchmarks"}
    files = list(all_files())
    assert len({file.path for file in files}) == len(files) > 140
    for file in files:
        assert re.fullmatch(r"https?://[a-z0-9.]+/\S+", file.url), file
        assert not file.path.startswith(("/", ".")), file
        if file.checksum:
            kind, digits = file.checksum
            assert re.fullmatch(r"[0-9a-f]+", digits)
            assert len(digits) == {"md5": 32, "sha256": 64}[kind]
    assert all(len(known[name].files) == 1 and not known[name].unpack for name in genomes)


def test_the_page_has_every_name_and_what_it_is_compared_with():
    rows = re.findall(r"^\| `(.+)` \| (.+) \| (.+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [
        (
            name,
            f"`{name}/{known.contigs[0]}` to `{name}/{known.contigs[-1]}`"
            if known.contigs
            else "-",
            compared_with(known),
            known.about,
        )
        for name, known in datasets().items()
    ]


def test_names():
    chr20 = find_dataset("hg38/chr20")
    assert chr20.files[0].path == "hg38/chr20.fa.gz"
    assert chr20.files[0].checksums_url.endswith("/hg38/chromosomes/md5sum.txt")
    assert is_genome("hg38/chr20")
    assert not is_genome("hg38/20")
    assert not is_genome("fewshot")
    with pytest.raises(UserError, match="hg83: no such data, wanted one of hg38"):
        find_dataset("hg83")
    with pytest.raises(UserError, match="wanted hg38, or one of its contigs chr1, "):
        find_dataset("hg38/20")
    with pytest.raises(UserError, match=r"wanted TAIR10, which is one file$"):
        find_dataset("TAIR10/chr1")


def test_what_is_fetched_is_where_tasks_look_for_it():
    """Each file of tasks is read by one, at the path where it is stored."""
    stored = {file.path.removeprefix("tasks/") for file in all_files() if "tasks/" in file.path}
    groups = {"few-shot", "silencer", "GUE", "Genomic Benchmarks"}
    layouts = {
        path
        for task in TASKS.values()
        if task.group in groups
        for files in (*task.files.values(), *task.shot_files.values())
        for layout in files.layouts
        for path in layout
    }
    for path in stored:
        assert any(layout == path or layout.startswith(f"{path}/") for layout in layouts), path


def test_without_a_root_tasks_read_what_was_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("CMGEMS_CACHE", str(tmp_path))
    task = TASKS["gue/tf/0"]
    with pytest.raises(UserError, match=r"tasks.root: found nothing.* `cmgems data get` fetches"):
        read_split(task, "train")
    folder = data_folder() / "tasks/GUE/tf/0"
    folder.mkdir(parents=True)
    (folder / "train.csv").write_text("sequence,label\nACGTACGT,0\nGGGGCCCC,1\n")
    assert read_split(task, "train").labels.tolist() == [0, 1]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        read_split(task, "train", ".")


def test_the_list_and_a_name_that_is_not_here(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CMGEMS_CACHE", str(tmp_path))
    file = tmp_path / "data/hg38/chr20.fa.gz"
    file.parent.mkdir(parents=True)
    file.touch()
    assert main(["data", "list"]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert rows["hg38"][1:5] == ["984", "MB", "-", "md5"]
    assert rows["hg38/CONTIG"][2] == "chr20"
    assert rows["fewshot"][1:5] == ["21", "MB", "-", "sha256"]
    assert rows["Kept"][-1] == f"{tmp_path}/data."
    assert main(["data", "path", "hg38"]) == 2
    assert "hg38: is not here, wanted `cmgems data get hg38` before" in capsys.readouterr().err
    assert main(["data", "path", "hg38/chr20"]) == 0
    assert capsys.readouterr().out == f"{file}\n"
