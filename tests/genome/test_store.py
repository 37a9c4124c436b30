"""The store on disk: what is refused, what is replaced, and what is left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.genome_files import build, contents

from cmgems.errors import UserError
from cmgems.genome.cache import load_genome
from cmgems.genome.genome import build_genome, open_genome
from cmgems.genome.store import read_manifest, store_lock, verify_codes
from cmgems.utils.files import hash_file

DATA = b">one\nACGTNACGT\n>two\nGGGG\n"


def refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        open_genome(path)
    return str(caught.value)


@pytest.fixture
def genome(tmp_path):
    return build(tmp_path, DATA)


def test_the_manifest_says_what_was_built_from_what(genome, tmp_path):
    manifest = read_manifest(genome.path)
    source = tmp_path / "g.fa"
    assert (manifest["format"], manifest["version"], manifest["dtype"]) == (
        "cmgems genome store",
        3,
        "uint8",
    )
    assert manifest["bases"] == 13
    assert manifest["sources"] == [
        {
            "path": str(source),
            "size": len(DATA),
            "mtime_ns": source.stat().st_mtime_ns,
            "sha256": hash_file(source),
        }
    ]
    assert [len(c["sha256"]) for c in manifest["contigs"]] == [64, 64]
    assert not genome.codes.flags.writeable
    assert sorted(os.listdir(tmp_path)) == ["g.fa", "store"]


def test_the_hash_depends_on_bases_and_names_alone(tmp_path):
    def hash_of(data):
        return build(tmp_path, data).sha256

    assert hash_of(b">x\nACGT\n>y\nAC\n") == hash_of(b">x 1\nac\ngt\n>y\r\nAC")
    assert hash_of(b">x\nACGT\n") != hash_of(b">y\nACGT\n")
    assert hash_of(b">x\nACGT\n") != hash_of(b">x\nACGA\n")
    assert hash_of(b">x\nACGTN\n>y\nC\n") != hash_of(b">x\nACGT\n>y\nNC\n")


def test_what_is_no_store(genome, tmp_path):
    again = f"build it again: cmgems genome SOURCE --out {tmp_path}"
    assert refusal(tmp_path) == (
        f"{tmp_path}: is not a genome store (no genome.json in it); {again}"
    )
    assert refusal(tmp_path / "absent").startswith(f"{tmp_path}/absent: does not exist")
    (tmp_path / "genome.json").write_text('{"format": "other"}')
    assert refusal(tmp_path) == (
        f"{tmp_path}/genome.json: is not the manifest of a genome store; {again}"
    )


def test_another_version_and_a_truncated_store(genome):
    again = f"build it again: cmgems genome SOURCE --out {genome.path}"
    manifest_path = genome.path / "genome.json"
    manifest = json.loads(manifest_path.read_text())
    manifest_path.write_text(json.dumps({**manifest, "version": 4}))
    assert refusal(genome.path) == (
        f"{genome.path}: is a store of version 4, this cmgems reads 3; {again}"
    )
    manifest_path.write_text(json.dumps({**manifest, "name": "else"}))
    assert refusal(genome.path) == (f"{manifest_path}: is damaged (its checksum is wrong); {again}")
    manifest_path.write_text(json.dumps(manifest))
    codes = genome.path / "codes.u8"
    codes.write_bytes(codes.read_bytes()[:-1])
    assert refusal(genome.path) == f"{codes}: has 13 bytes, wanted 14 as in the manifest; {again}"
    codes.unlink()
    assert refusal(genome.path) == f"{codes}: No such file or directory; {again}"


@pytest.mark.parametrize("seconds", [-1000, 1000])
def test_a_source_that_was_replaced_makes_the_store_stale(genome, tmp_path, seconds):
    source = tmp_path / "g.fa"
    then = source.stat().st_mtime + seconds  # an older file put back counts as well as a newer one
    source.write_bytes(DATA.replace(b"GGGG", b"GGGA"))
    os.utime(source, (then, then))
    assert refusal(genome.path) == (
        f"{genome.path}: is stale: {source} has changed since it was built;"
        f" build it again: cmgems genome {source} --out {genome.path}"
    )
    source.write_bytes(DATA)  # the old content at another time: not stale
    os.utime(source, (then, then))
    assert contents(open_genome(genome.path)) == contents(genome)
    source.unlink()
    assert contents(open_genome(genome.path)) == contents(genome)


def test_a_copied_store_is_verified_and_works(genome, tmp_path):
    copy = shutil.copytree(genome.path, tmp_path / "copy")
    assert contents(open_genome(copy)) == contents(genome)
    codes = np.fromfile(copy / "codes.u8", np.uint8)
    codes[9] = 0  # the separator of the contigs
    codes.tofile(copy / "codes.u8")
    assert "contig 'one' is damaged (its checksum is wrong)" in refusal(copy)
    codes[9], codes[10] = 4, 0
    with pytest.raises(UserError, match="contig 'two' is damaged"):
        verify_codes(copy, read_manifest(copy), codes)


def test_a_store_is_replaced_and_anything_else_is_not(genome, tmp_path):
    before = genome.codes[:4].tolist()
    again = build(tmp_path, b">x\nTTTTTT\n")
    assert again.codes.tolist() == [1] * 6
    assert genome.codes[:4].tolist() == before  # who has the old one open keeps it
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine")
    outs = (
        (tmp_path / "folder", "is a folder that is not a genome store"),
        (tmp_path / "g.fa", "is a file; --out wants a folder"),
        (tmp_path / "g.fa" / "store", "wanted: a folder that can be written"),
    )
    for out, what in outs:
        with pytest.raises(UserError, match=what):
            build_genome([tmp_path / "g.fa"], out, progress=False)
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "mine"


def test_a_failed_build_leaves_the_old_store(genome, tmp_path):
    (tmp_path / "bad.fa").write_bytes(b">x\nAC!T\n")
    with pytest.raises(UserError, match="'!'"):
        build_genome([tmp_path / "bad.fa"], genome.path, progress=False)
    assert contents(open_genome(genome.path)) == contents(genome)
    assert sorted(os.listdir(tmp_path)) == ["bad.fa", "g.fa", "store"]


def test_several_sources_make_one_genome(tmp_path):
    for name, data in (("a.fa", b">x\nACGT\n"), ("b.fa", b">y\nGG\n>z\nT"), ("c.fa", b">y\nA\n")):
        (tmp_path / name).write_bytes(data)
    a, b, c = (tmp_path / name for name in ("a.fa", "b.fa", "c.fa"))
    for threads in (1, 3):
        genome = build_genome([a, b], tmp_path / "store", threads=threads, progress=False)
        assert genome.name == "a+b"
        assert contents(genome) == [("x", [0, 2, 3, 1]), ("y", [3, 3]), ("z", [1])]
        assert genome.codes.tolist() == [0, 2, 3, 1, 4, 3, 3, 4, 1]
    with pytest.raises(UserError) as caught:
        build_genome([a, b, c], tmp_path / "store", progress=False)
    assert str(caught.value) == (
        f"{c}: line 1: contig 'y' is listed twice, first at {b}: line 1; wanted: names that differ"
    )


def test_a_second_builder_is_refused(tmp_path):
    (tmp_path / "g.fa").write_bytes(DATA)
    with store_lock(tmp_path / "store"):
        with pytest.raises(UserError, match="another process is building this store"):
            build_genome([tmp_path / "g.fa"], tmp_path / "store", progress=False)
    assert os.listdir(tmp_path) == ["g.fa"]


def test_the_cache_is_built_once_and_again_when_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("CMGEMS_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "g.fa"
    source.write_bytes(DATA)
    first, second = load_genome(str(source)), load_genome(str(source))
    assert first.path == second.path
    built = (first.path / "genome.json").stat().st_mtime_ns
    assert (second.path / "genome.json").stat().st_mtime_ns == built
    source.write_bytes(b">x\nTTTT\n")
    os.utime(source, (1, 1))
    assert load_genome(str(source)).codes.tolist() == [1] * 4
    (first.path / "codes.u8").write_bytes(b"")
    source.write_bytes(DATA)
    assert contents(load_genome(str(source))) == contents(build(tmp_path, DATA))


def test_two_processes_that_want_the_same_genome(tmp_path):
    source = tmp_path / "g.fa"
    source.write_bytes(b">x\n" + b"ACGTACGTTA" * 100_000 + b"\n")
    code = (
        f"from cmgems.genome.cache import load_genome; print(load_genome({str(source)!r}).sha256)"
    )
    env = {**os.environ, "CMGEMS_CACHE": str(tmp_path / "cache")}
    runs = [
        subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    hashes = {run.communicate()[0] for run in runs}
    assert len(hashes) == 1
    assert hashes != {b""}
    assert len(os.listdir(tmp_path / "cache" / "genomes")) == 1


def test_ctrl_c_leaves_nothing_behind(tmp_path):
    source = tmp_path / "g.fa"
    with open(source, "wb") as handle:
        handle.write(b">x\n")
        handle.writelines(b"ACGTACGTTA" * 1_000_000 for _ in range(60))
    command = [sys.executable, "-m", "cmgems", "genome", str(source), "--out", f"{tmp_path}/store"]
    # A shell that starts the tests in the background has them, and what they start, ignore Ctrl-C.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    part = tmp_path / ".store.part"
    for _ in range(10):  # where the processor is shared, the call may end before it is seen
        run = subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=heed)
        while not (part.exists() and any(part.iterdir())) and run.poll() is None:
            time.sleep(0.002)
        run.send_signal(signal.SIGINT)
        _, error = run.communicate(timeout=60)
        if run.returncode != 0:
            break
        shutil.rmtree(tmp_path / "store")
    assert run.returncode == 130
    assert error == b"cmgems genome: interrupted\n"
    assert os.listdir(tmp_path) == ["g.fa"]


def test_kernels_work_where_nothing_can_be_written(tmp_path):
    """A package that cannot be written to, and no home: numba has no folder to save its code in."""
    package = Path(__import__("cmgems").__file__).parent
    copy = shutil.copytree(
        package, tmp_path / "cmgems", ignore=shutil.ignore_patterns("__pycache__", "sample")
    )
    for folder in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
        (folder / "__pycache__").write_text("a file, so no folder can be made here, even by root")
    code = (
        "import numpy as np, cmgems.difficulty.counts as c; print(c.__file__);"
        "print(c.count_kmers(np.array([0, 0, 1, 4, 0], np.uint8), 1, threads=1).tolist())"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "HOME": "/dev/null"}
    env.pop("XDG_CACHE_HOME", None)
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    module = copy / "difficulty" / "counts.py"
    assert run.stdout.splitlines() == [str(module), "[3, 1, 0, 0]"], run.stderr


def test_opening_a_store_needs_numpy_alone(genome):
    code = (
        "import sys; from cmgems.genome.genome import open_genome; "
        f"open_genome({str(genome.path)!r});"
        "print([m for m in ('numba', 'torch', 'Bio', 'matplotlib', 'tqdm') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
