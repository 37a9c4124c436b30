"""The cache of stores: what is removed when one is added, and what is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.genome_files import contents

from cmgems.errors import UserError
from cmgems.genome import cache
from cmgems.genome.cache import load_genome
from cmgems.genome.store import store_lock

WEEK = 7 * 24 * 3600


@pytest.fixture
def stores(tmp_path, monkeypatch):
    """The folder of the stores in a cache of this test alone."""
    monkeypatch.setenv("CMGEMS_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "genomes"
    cache.release_all()


def add(source: Path, bases: str = "ACGT") -> Path:
    """The store of a sequence file, which nobody has open."""
    source.write_text(f">x\n{bases}\n")
    store = load_genome(str(source)).path
    cache.release_all()
    return store


def names(folder: Path) -> set[str]:
    return set(os.listdir(folder))


def test_the_store_of_an_older_state_of_a_file_goes(tmp_path, stores):
    old = add(tmp_path / "a.fa", "ACGT")
    other = add(tmp_path / "b.fa", "AAAA")
    new = add(tmp_path / "a.fa", "CCCCC")
    assert names(stores) == {other.name, new.name}
    assert old.name not in names(stores)


def test_a_store_whose_source_is_gone_stays_for_a_week(tmp_path, stores):
    gone = add(tmp_path / "a.fa")
    (tmp_path / "a.fa").unlink()
    second = add(tmp_path / "b.fa")
    assert names(stores) == {gone.name, second.name}
    then = gone.stat().st_mtime - WEEK - 60
    os.utime(gone, (then, then))
    third = add(tmp_path / "c.fa")
    assert names(stores) == {second.name, third.name}


def test_what_was_not_used_for_the_longest_time_makes_room(tmp_path, stores, monkeypatch):
    made = [add(tmp_path / f"{name}.fa", "ACGT" * 5000) for name in "abc"]
    now = made[0].stat().st_mtime
    for store, age in zip(made, (100, 300, 200), strict=True):
        os.utime(store, (now - age, now - age))
    load_genome(str(tmp_path / "b.fa"))  # used again: now the youngest
    cache.release_all()
    monkeypatch.setenv("CMGEMS_CACHE_GB", "75e-6")  # codes and soft mask of a store need 22.5 kB
    added = add(tmp_path / "d.fa", "ACGT" * 5000)
    assert names(stores) == {made[0].name, made[1].name, added.name}
    monkeypatch.setenv("CMGEMS_CACHE_GB", "0")
    alone = add(tmp_path / "e.fa")  # what was asked for is never refused for want of room
    assert names(stores) == {alone.name}


def test_a_store_that_another_process_has_open_stays(tmp_path, stores):
    source = tmp_path / "a.fa"
    source.write_text(">x\nACGT\n")
    code = (
        f"from cmgems.genome.cache import load_genome; g = load_genome({str(source)!r});"
        "print(g.path, flush=True); input(); print(g.codes.tolist())"
    )
    user = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    in_use = Path(user.stdout.readline().strip())
    add(source, "CCCCC")
    assert in_use.name in names(stores)
    output, _ = user.communicate("\n", timeout=60)
    assert output == "[0, 2, 3, 1]\n"
    add(tmp_path / "b.fa")
    assert in_use.name not in names(stores)


def test_a_store_that_is_being_built_stays(tmp_path, stores):
    old = add(tmp_path / "a.fa", "ACGT")
    (stores / f".{old.name}.part").mkdir()
    with store_lock(old):
        add(tmp_path / "a.fa", "CCCCC")
        assert {old.name, f".{old.name}.part"} <= names(stores)


def test_what_a_killed_builder_left_goes_and_what_is_not_ours_stays(tmp_path, stores):
    first = add(tmp_path / "a.fa")
    for name in (f".{first.name}.part", f".{first.name}.old", "notes", ".notes.part"):
        (stores / name).mkdir()
    second = add(tmp_path / "b.fa")
    assert names(stores) == {first.name, second.name, "notes", ".notes.part"}


def test_a_damaged_store_is_built_again(tmp_path, stores):
    store = add(tmp_path / "a.fa", "ACGT")
    (store / "genome.json").write_text("{}")
    assert contents(load_genome(str(tmp_path / "a.fa"))) == [("x", [0, 2, 3, 1])]


def test_a_limit_that_is_no_number(tmp_path, stores, monkeypatch):
    monkeypatch.setenv("CMGEMS_CACHE_GB", "much")
    (tmp_path / "a.fa").write_text(">x\nACGT\n")
    with pytest.raises(UserError, match="CMGEMS_CACHE_GB is 'much'; wanted: gigabytes, such as 50"):
        load_genome(str(tmp_path / "a.fa"))
