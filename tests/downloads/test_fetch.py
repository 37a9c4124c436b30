"""Data by name, from a server that breaks: one line, exit code 2, and nothing half-written."""

import errno
import gzip
import hashlib
import io
import os
import random
import shutil
import threading
import zipfile
from pathlib import Path

import pytest
from helpers.file_server import Served, file_server
from helpers.genome_files import contents

import cmgems.commands.data  # noqa: F401  # before the registry is replaced
from cmgems.cli import main
from cmgems.downloads import fetch as fetching
from cmgems.downloads import http, registry
from cmgems.genome import cache
from cmgems.genome.cache import load_genome

BASES = "".join(random.Random(0).choices("ACGT", k=40_000))
GENOME = gzip.compress(f">chr1\n{BASES}\n".encode(), mtime=0)
HALF = len(GENOME) // 2
MD5, SHA256 = hashlib.md5(GENOME).hexdigest(), hashlib.sha256(GENOME).hexdigest()


@pytest.fixture(scope="module")
def running_server():
    with file_server() as server:
        yield server


@pytest.fixture
def toy(running_server, tmp_path, monkeypatch):
    """(files of the server, folder of data), with a genome `toy` and tasks `made`."""
    url, files = running_server
    files.clear()
    text = f"""
genomes:
  toy:
    about: a toy
    url: {url}/toy/
    files:
      toy.fa.gz: {{sha256: {SHA256}, size: {len(GENOME)}}}
    contigs_url: {url}/toy/contigs/
    contigs: [chr1]
    checksums: md5sum.txt
  unknown:
    about: a toy of unknown checksum
    url: {url}/toy/
    files:
      toy.fa.gz: {{}}
tasks:
  made:
    about: made
    folder: tasks
    url: {url}/made/
    files:
      MADE: {{url: "get?id=1"}}
    unpack: true
"""
    monkeypatch.setattr(registry, "datasets", lambda: registry.read_registry(text))
    monkeypatch.setenv("CMGEMS_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("CMGEMS_MIRROR", raising=False)
    monkeypatch.setattr(http, "PAUSE", 0.0)
    files["/toy/toy.fa.gz"] = Served(GENOME)
    yield files, tmp_path / "data"
    cache.release_all()


def refused(capsys, *argv):
    """The last line of a command that ends with exit code 2."""
    assert main(["data", *map(str, argv)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.replace("\r", "\n").rstrip().rpartition("\n")[2]


def listing(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


WHOLE = ["toy/toy.fa.gz", "toy/toy.fa.gz.sha256"]


def test_a_genome_by_name_is_fetched_once_and_says_how_much_it_is(toy, capsys):
    files, folder = toy
    assert contents(load_genome("toy"))[0][0] == "chr1"
    said = capsys.readouterr().err
    assert f"{folder}/toy/toy.fa.gz (12 kB)" in said
    assert f"sha256 as published; sha256 {SHA256}" in said
    assert listing(folder) == WHOLE
    assert (folder / WHOLE[1]).read_text() == f"{SHA256}  toy.fa.gz\n"  # as sha256sum -c reads it
    assert len(load_genome("toy").codes) == len(BASES)
    assert capsys.readouterr().err == ""
    assert files["/toy/toy.fa.gz"].asked == [None]
    assert main(["data", "path", "toy"]) == 0
    assert capsys.readouterr().out == f"{folder}/toy/toy.fa.gz\n"


def test_a_file_of_that_name_comes_first(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("toy").write_text(">own\nACGT\n")
    assert contents(load_genome("toy")) == [("own", [0, 2, 3, 1])]


def test_a_cut_connection_goes_on_where_it_was_cut(toy, capsys):
    files, folder = toy
    files["/toy/toy.fa.gz"].cuts = [HALF, 100]
    assert main(["data", "get", "toy"]) == 0
    assert files["/toy/toy.fa.gz"].asked == [None, f"bytes={HALF}-", f"bytes={HALF + 100}-"]
    assert (folder / WHOLE[0]).read_bytes() == GENOME
    assert listing(folder) == WHOLE


def test_what_was_cut_for_good_is_kept_for_the_next_command(toy, capsys):
    files, folder = toy
    files["/toy/toy.fa.gz"].cuts = [HALF, 0, 0, 0]
    line = refused(capsys, "get", "toy")
    assert "no connection (cut) after 6 kB; the same command goes on from there" in line
    assert not (folder / WHOLE[0]).exists()
    assert main(["data", "get", "toy"]) == 0
    assert files["/toy/toy.fa.gz"].asked[-1] == f"bytes={HALF}-"
    assert (folder / WHOLE[0]).read_bytes() == GENOME
    assert listing(folder) == WHOLE


def test_parts_of_two_states_of_a_file_are_not_joined(toy, capsys):
    files, folder = toy
    old = bytes(len(GENOME))
    files["/toy/toy.fa.gz"] = Served(old, etag='"0"', cuts=[HALF, 0, 0, 0])
    refused(capsys, "get", "toy")
    files["/toy/toy.fa.gz"] = Served(GENOME)
    assert main(["data", "get", "toy"]) == 0
    assert (folder / WHOLE[0]).read_bytes() == GENOME
    # Without a mark of its state, a file is fetched from its beginning.
    shutil.rmtree(folder)
    files["/toy/toy.fa.gz"] = Served(GENOME, etag="", cuts=[HALF])
    assert main(["data", "get", "toy"]) == 0
    assert files["/toy/toy.fa.gz"].asked == [None, None]


def test_killed_between_the_last_byte_and_the_name(toy):
    files, folder = toy
    (folder / "toy").mkdir(parents=True)
    (folder / "toy/.toy.fa.gz.part").write_bytes(GENOME)
    (folder / "toy/.toy.fa.gz.tag").write_text('"1"')
    assert main(["data", "get", "toy"]) == 0
    assert files["/toy/toy.fa.gz"].asked == [f"bytes={len(GENOME)}-"]
    assert listing(folder) == WHOLE


def test_a_wrong_checksum(toy, capsys):
    files, folder = toy
    files["/toy/toy.fa.gz"].content = GENOME[:-1] + b"x"
    line = refused(capsys, "get", "toy")
    assert (
        f"its sha256 is {hashlib.sha256(GENOME[:-1] + b'x').hexdigest()}, wanted {SHA256}" in line
    )
    assert listing(folder) == []


def test_the_publishers_list_of_checksums(toy, capsys):
    files, folder = toy
    files["/toy/contigs/chr1.fa.gz"] = Served(GENOME)
    files["/toy/contigs/md5sum.txt"] = Served(f"{'0' * 32}  ./chr1.fa.gz\n".encode(), type="text")
    assert f"its md5 is {MD5}, wanted {'0' * 32}" in refused(capsys, "get", "toy/chr1")
    assert listing(folder) == []
    files["/toy/contigs/md5sum.txt"].content = f"{'1' * 32}  chr2\n{MD5}  chr1.fa.gz\n".encode()
    assert main(["data", "get", "toy/chr1"]) == 0
    assert "md5 as published" in capsys.readouterr().err
    assert main(["data", "get", "unknown"]) == 0  # neither here nor in a list
    assert f"no checksum is known to compare with; sha256 {SHA256}" in capsys.readouterr().err


def test_redirects(toy, capsys):
    files, folder = toy
    files["/elsewhere"] = files.pop("/toy/toy.fa.gz")
    files["/toy/toy.fa.gz"] = Served(b"", location="/elsewhere")
    assert main(["data", "get", "toy"]) == 0
    assert listing(folder) == WHOLE
    shutil.rmtree(folder)
    capsys.readouterr()
    files["/elsewhere"].location = "/toy/toy.fa.gz"
    assert "found 302" in refused(capsys, "get", "toy")
    assert listing(folder) == []


@pytest.mark.parametrize(
    ("served", "message"),
    [
        (None, "found 404 Not Found, wanted the file"),
        (Served(b"<html>sign in</html>", type="text/html"), "found a web page, wanted the file"),
        (Served(b"", status=503), "found 503 Service Unavailable"),
    ],
)
def test_what_is_not_the_file(served, message, toy, capsys):
    files, folder = toy
    files["/toy/toy.fa.gz"] = served
    line = refused(capsys, "get", "toy")
    assert message in line
    assert line.endswith("; or `cmgems data get toy --from FOLDER`")
    assert listing(folder) == []


def test_a_server_that_sends_nothing(toy, capsys, monkeypatch):
    files, folder = toy
    monkeypatch.setattr(http, "TIMEOUT", 0.1)
    monkeypatch.setattr(http, "TRIES", 2)
    files["/toy/toy.fa.gz"].delay = threading.Event()
    assert "no answer in 0.1 s" in refused(capsys, "get", "toy")
    files["/toy/toy.fa.gz"].delay.set()
    assert listing(folder) == []


def test_a_full_disk(toy, capsys, monkeypatch):
    folder = toy[1]
    fsync = os.fsync

    def full(descriptor):
        if ".part" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    line = refused(capsys, "get", "toy")
    assert line == f"cmgems data: {folder}/toy/toy.fa.gz: No space left on device"
    assert listing(folder) == []


def test_too_little_room_is_said_before(toy, capsys, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(http, "disk_usage", lambda _: usage)
    line = refused(capsys, "get", "toy")
    assert "found 1 kB of room, wanted 12 kB; set CMGEMS_CACHE" in line
    assert listing(toy[1]) == []


def test_a_mirror_is_asked_first(toy, running_server, capsys, monkeypatch):
    files, folder = toy
    monkeypatch.setenv("CMGEMS_MIRROR", f"{running_server[0]}/mirror/")
    assert main(["data", "get", "toy"]) == 0  # it has none, the publisher does
    assert (
        "/mirror/toy/toy.fa.gz: found 404 Not Found, wanted the file; another source follows"
        in (capsys.readouterr().err)
    )
    files["/mirror/unknown/toy.fa.gz"] = Served(GENOME)
    files["/mirror/unknown/toy.fa.gz.sha256"] = Served(f"{SHA256}  toy.fa.gz\n".encode())
    asked = len(files["/toy/toy.fa.gz"].asked)
    assert main(["data", "get", "unknown"]) == 0
    assert "sha256 as published" in capsys.readouterr().err
    assert len(files["/toy/toy.fa.gz"].asked) == asked
    monkeypatch.setenv("CMGEMS_MIRROR", "/srv/mirror")
    shutil.rmtree(folder)
    assert "CMGEMS_MIRROR: found /srv/mirror, wanted an address" in refused(capsys, "get", "toy")


def test_from_a_folder_nothing_is_asked_of_a_server(toy, capsys, tmp_path):
    files, folder = toy
    usb = tmp_path / "usb"
    usb.mkdir()
    assert f"--from: {usb} has no toy/toy.fa.gz or toy.fa.gz" in refused(
        capsys, "get", "toy", "--from", usb
    )
    (usb / "toy.fa.gz").write_bytes(GENOME[:-1])
    assert f"wanted {SHA256}" in refused(capsys, "get", "toy", "--from", usb)
    assert listing(folder) == []
    (usb / "toy.fa.gz").write_bytes(GENOME)
    assert main(["data", "get", "toy", "--from", str(usb)]) == 0
    assert capsys.readouterr().out == f"{folder}/toy/toy.fa.gz\n"
    assert files["/toy/toy.fa.gz"].asked == []
    assert "is not a folder" in refused(capsys, "get", "toy", "--from", usb / "no")


def archive(names):
    """A zip archive with a file of each name."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as handle:
        for name in names:
            handle.writestr(name, "sequence,label\nACGT,0\n")
    return Served(packed.getvalue())


def test_archives_are_unpacked_inside_their_folder(toy, capsys, tmp_path):
    files, folder = toy
    files["/made/get?id=1"] = archive(["MADE/EMP/H3/train.csv", "../../outside"])
    assert main(["data", "get", "made"]) == 0
    assert capsys.readouterr().out == f"{folder}/tasks\n"
    assert listing(folder) == ["tasks/MADE.zip.sha256", "tasks/MADE/EMP/H3/train.csv"]
    assert not (tmp_path / "outside").exists()
    shutil.rmtree(folder)
    files["/made/get?id=1"] = archive(["OTHER/train.csv"])
    assert "has OTHER, wanted the folder MADE" in refused(capsys, "get", "made")
    files["/made/get?id=1"] = Served(b"PK not at all")
    assert "not a zip archive (File is not a zip file); it was removed" in refused(
        capsys, "get", "made"
    )
    assert listing(folder) == ["tasks/MADE.zip.sha256"]


def test_two_at_once_fetch_once(toy):
    files, folder = toy
    gate = files["/toy/toy.fa.gz"].delay = threading.Event()
    threads = [threading.Thread(target=fetching.fetch, args=("toy",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(30)
    assert files["/toy/toy.fa.gz"].asked == [None]
    assert listing(folder) == WHOLE
