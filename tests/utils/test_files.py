"""Locks, hashes and the text of users' files."""

import fcntl
import gzip
import hashlib
import os
import threading
import time

import pytest

from cmgems.errors import UserError
from cmgems.utils.files import (
    atomic_folder,
    atomic_write,
    file_lock,
    hash_file,
    read_text,
)


def test_a_lock_is_refused_or_waited_for_and_leaves_no_file(tmp_path):
    lock, order = tmp_path / "x.lock", []

    def wait():
        with file_lock(lock, "busy", wait=True):
            order.append("second")

    with file_lock(lock, "busy"):
        with pytest.raises(UserError, match="busy"), file_lock(lock, "busy"):
            order.append("never")
        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(0.2)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]
    assert os.listdir(tmp_path) == []


def test_what_killed_writers_left_is_removed_by_the_next_one(tmp_path):
    old, new, held = (tmp_path / f".data.{number}.part" for number in (11, 22, 33))
    folder, other = tmp_path / ".data.44.part", tmp_path / ".data2.11.part"
    for file in (old, new, held, other):
        file.write_text("half")
    folder.mkdir()
    (folder / "inside").touch()
    an_hour_ago = time.time() - 3600
    for path in (old, held, folder, other):
        os.utime(path, (an_hour_ago, an_hour_ago))
    with open(held) as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        with atomic_write(tmp_path / "data") as handle:
            handle.write("whole")
    assert sorted(os.listdir(tmp_path)) == [
        ".data.22.part",
        ".data.33.part",
        ".data2.11.part",
        "data",
    ]
    assert (tmp_path / "data").read_text() == "whole"


def test_a_writer_holds_its_temporary_file_and_folder(tmp_path):
    with atomic_write(tmp_path / "data") as handle, open(handle.name) as again:
        with pytest.raises(BlockingIOError):
            fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with atomic_folder(tmp_path / "folder") as temporary:
        descriptor = os.open(temporary, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
    assert sorted(os.listdir(tmp_path)) == ["data", "folder"]


def test_the_hash_is_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"ACGT" * 1000)
    assert hash_file(tmp_path / "f") == hashlib.sha256(b"ACGT" * 1000).hexdigest()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_text_is_read_plain_and_packed(tmp_path, pack):
    (tmp_path / "t").write_bytes(pack("\ufeffa\tµ\r\n".encode()))
    assert read_text(tmp_path / "t", "a table") == "a\tµ\r\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist; wanted: a table"),
        (b"\xff\xff", r"is not text \(byte 0\), wanted a table"),
        (gzip.compress(b"ACGT" * 100, mtime=0)[:-9], "the gzip file is damaged"),
    ],
)
def test_what_is_not_text_is_refused_in_one_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "t").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_text(tmp_path / "t", "a table")
