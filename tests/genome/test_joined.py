"""Several genomes as one store: against their codes one after the other."""

import os
import shutil

import numpy as np
import pytest

from cmgems.errors import UserError
from cmgems.genome import cache
from cmgems.genome.cache import load_genome
from cmgems.genome.genome import open_genome
from cmgems.genome.joined import join_genomes, member_labels, member_starts
from cmgems.genome.store import VERSION

WEEK = 7 * 24 * 3600
LETTERS = np.frombuffer(b"ATCGNatcgn", np.uint8)


@pytest.fixture
def members(tmp_path, monkeypatch):
    """Three genomes of odd lengths, two of them of one name and with the same contigs."""
    monkeypatch.setenv("CMGEMS_CACHE", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    paths = []
    for folder, lengths in (("a", (101, 7)), ("b", (64, 333)), ("c", (1,))):
        (tmp_path / folder).mkdir()
        name = "other.fa" if folder == "c" else "same.fa"
        paths.append(tmp_path / folder / name)
        letters = [LETTERS[generator.integers(0, 10, n)].tobytes().decode() for n in lengths]
        letters[0] = "a" + letters[0][1:]
        text = "".join(f">chr{i}\n{letters}\n" for i, letters in enumerate(letters))
        paths[-1].write_text(text)
    yield [load_genome(str(path)) for path in paths]
    cache.release_all()


def test_codes_case_and_names_are_those_of_the_members(members, monkeypatch):
    monkeypatch.setattr("cmgems.genome.joined.SCAN_BLOCK", 128)
    joined = join_genomes(members)
    assert joined.name == "same+same-2+other"
    assert [contig.name for contig in joined.contigs] == [
        *("same/chr0", "same/chr1", "same-2/chr0", "same-2/chr1", "other/chr0")
    ]
    assert member_labels(members) == ["same", "same-2", "other"]
    wanted_codes, wanted_case = [], []
    for member in members:
        wanted_codes += [*member.codes.tolist(), 4]
        wanted_case += [*member.soft_mask(0, len(member.codes)).tolist(), False]
    assert joined.codes.tolist() == wanted_codes[:-1]
    assert joined.soft_mask(0, len(joined.codes)).tolist() == wanted_case[:-1]
    assert joined.soft_masked == sum(wanted_case) > 0
    contigs = iter(joined.contigs)
    for member, start in zip(members, member_starts(members), strict=True):
        for own in member.contigs:
            contig = next(contigs)
            assert (contig.start, contig.length) == (start + own.start, own.length)
            assert (contig.n_count, contig.iupac_count) == (own.n_count, own.iupac_count)
    (joined.path / "codes.u8").touch()  # its checksums are compared
    assert open_genome(joined.path).sha256 == joined.sha256


def test_it_is_built_once_and_again_where_a_member_or_its_case_differs(members, tmp_path):
    joined = join_genomes(members)
    assert join_genomes(members).path == joined.path
    assert join_genomes(members[::-1]).path != joined.path
    text = (tmp_path / "c" / "other.fa").read_text()
    (tmp_path / "c" / "other.fa").write_text(text.replace("\na", "\nA"))
    upper = load_genome(str(tmp_path / "c" / "other.fa"))
    assert upper.sha256 == members[2].sha256
    other = join_genomes([*members[:2], upper])
    assert other.path != joined.path
    assert other.soft_masked == joined.soft_masked - 1


def test_it_stays_in_the_cache_for_a_week(members, tmp_path):
    joined = join_genomes(members)
    cache.release_all()
    then = joined.path.stat().st_mtime - WEEK + 3600
    os.utime(joined.path, (then, then))
    (tmp_path / "d.fa").write_text(">x\nACGT\n")
    load_genome(str(tmp_path / "d.fa"))
    assert joined.path.exists()
    os.utime(joined.path, (then - 7200, then - 7200))
    (tmp_path / "d.fa").write_text(">x\nACGTT\n")
    load_genome(str(tmp_path / "d.fa"))
    assert not joined.path.exists()


def test_a_store_without_the_case_is_refused(members, tmp_path, monkeypatch):
    old = tmp_path / "old"
    shutil.copytree(members[0].path, old)
    monkeypatch.setattr("cmgems.genome.store.VERSION", VERSION + 1)
    with pytest.raises(UserError, match=r"old: was built without the case of its bases"):
        join_genomes([open_genome(old), members[1]])
