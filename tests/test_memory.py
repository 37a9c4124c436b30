"""Memory that free heap keeps: given back when the process has grown, and only then."""

import mmap

import pytest

from cmgems.callbacks import memory
from cmgems.callbacks.memory import STATM, TrimMemory, resident

linux = pytest.mark.skipif(not STATM.exists(), reason="sizes of a process as Linux tells them")


@linux
def test_resident_counts_bytes_that_are_in_use():
    size = 64 << 20
    with mmap.mmap(-1, size) as block:  # not of the heap, which may have free pages already
        before = resident()
        block.write(bytes([1]) * size)
        assert resident() - before == pytest.approx(size, rel=0.1)


def test_heap_is_trimmed_when_the_process_has_grown(monkeypatch):
    sizes = iter([500, 400, 499, 500, 501, 450, 550, 551, 460])
    monkeypatch.setattr(memory, "resident", lambda: next(sizes))
    callback, trimmed = TrimMemory(growth=100), []
    monkeypatch.setattr(callback, "_trim", trimmed.append)
    after = []
    for step in range(6):
        callback.on_train_batch_end(None, None, None, None, step)
        after.append(len(trimmed))
    # 500: first, leaves 400; 499 and 500 are within 100 of that; 501 is not, leaves 450; ...
    assert after == [1, 1, 1, 2, 2, 3]
    assert trimmed == [0, 0, 0]
