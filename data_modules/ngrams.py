"""The n-grams of a genome's byte pairs: counted on its token store, and kept beside it."""

import contextlib
import hashlib
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from cmgems.data_modules.token_store import open_tokens
from cmgems.difficulty.ngrams import NgramTable, ngram_table
from cmgems.genome.genome import Genome
from cmgems.tokenization.base import FIRST_TOKEN
from cmgems.tokenization.bpe import BytePairs, Ngrams
from cmgems.utils.files import atomic_write

VERSION = 1  # to be raised whenever the table of the same tokens is another one


def genome_ngrams(genome: Genome, tokenization: BytePairs, min_count: int) -> NgramTable:
    """The table of a genome; it is cached in the folder of its tokens."""
    store = open_tokens(genome, tokenization)
    path = store.path / f"ngrams-{VERSION}-{min_count}.npz"
    cached = _read(path, min_count)
    if cached is not None:
        return cached
    table = ngram_table(
        store.ids, store.pieces[1:, 1], tokenization.vocab_size, FIRST_TOKEN, min_count
    )
    with contextlib.suppress(OSError), atomic_write(path, "wb") as handle:  # read-only: no cache
        arrays = {name: x for name, x in asdict(table).items() if isinstance(x, np.ndarray)}
        arrays["digest"] = np.array(_digest(arrays))
        np.savez(handle, allow_pickle=False, **arrays)
    return table


def _read(path: Path, min_count: int) -> NgramTable | None:
    """None if there is none, or it is damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if str(arrays.pop("digest")) == _digest(arrays):
            return NgramTable(**arrays, min_count=min_count)
    return None


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def with_units(tokenization: BytePairs, table: NgramTable) -> BytePairs:
    """The tokenization with the table's n-grams as units of masking."""
    return replace(tokenization, ngrams=Ngrams(table.keys, table.rank[: len(table.keys)]))
