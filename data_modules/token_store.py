"""Token ids of a genome on disk, for tokenizations whose ids depend on more than adjacent bases.

A folder in the genome store, one per vocabulary:

ids.u16       token ids of all stretches of known bases, in the order of the genome
pieces.i64    where each piece that was encoded on its own begins: its first base (an offset into
              the codes) and its first token; the last row is behind all of them
tokens.json   the manifest: format, version, dtype, numbers, the genome's and the vocabulary's
              digests, size, time and sha256 of the files

It is written beside its place, synced and renamed. One that is damaged, or of another genome,
vocabulary or version, is built again. Windows are cut between tokens: of the bases of a window
those count that lie under whole tokens.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch

from cmgems.data_modules.windows import WindowBatch
from cmgems.errors import UserError
from cmgems.genome.alphabet import AMBIGUOUS, reverse_complement
from cmgems.genome.genome import Genome
from cmgems.genome.spans import SCAN_BLOCK
from cmgems.genome.store import replace_folder, store_lock
from cmgems.tokenization.base import PAD
from cmgems.tokenization.bpe import BytePairs, known_pieces, letters_of
from cmgems.utils.files import atomic_write, hash_file
from cmgems.utils.progress import progress_bar

FORMAT, VERSION = "cmgems token store", 1
IDS, PIECES, MANIFEST = "ids.u16", "pieces.i64", "tokens.json"
PIECES_PER_BATCH = 256


class TokenStore(NamedTuple):
    """The ids of a genome, open for reading."""

    ids: np.ndarray  # uint16 [T], read-only memory map
    pieces: np.ndarray  # int64 [P + 1, 2]: first base and first token of each piece
    token_bases: np.ndarray  # int64 [V]
    path: Path

    def window(self, start: int, length: int) -> tuple[int, np.ndarray]:
        """Where the first token begins that lies whole in a window without unknown bases, and
        int32 [K]: the ids of all that do."""
        piece = int(np.searchsorted(self.pieces[:, 0], start, side="right")) - 1
        base, first = self.pieces[piece].tolist()
        # No token is shorter than a base: these are enough.
        ids = self.ids[first : first + start - base + length].astype(np.int32)
        ends = base + self.token_bases[ids].cumsum()
        begin = int(np.searchsorted(ends - self.token_bases[ids], start))
        end = max(int(np.searchsorted(ends, start + length, side="right")), begin)
        at = int(ends[begin - 1]) if begin else base
        return at, ids[begin:end]


def open_tokens(genome: Genome, tokenization: BytePairs) -> TokenStore:
    """The token store of a genome; it is built where there is none of this genome and vocabulary.

    Raises
    ------
    UserError
        If it has to be built and cannot be written.
    """
    path = genome.path / "tokens" / tokenization.digest
    wanted = {
        "format": FORMAT,
        "version": VERSION,
        "dtype": "uint16",
        "genome": genome.sha256,
        "vocabulary": tokenization.digest,
    }
    token_bases = tokenization.token_bases.numpy()
    store = _read(path, wanted, token_bases)
    if store is not None:
        return store
    try:
        path.parent.mkdir(exist_ok=True)
        with store_lock(path, wait=True):
            store = _read(path, wanted, token_bases)  # of another process that was faster
            if store is None:
                with replace_folder(path) as folder:
                    _write(folder, genome, tokenization, wanted)
                store = _read(path, wanted, token_bases)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; wanted a genome store to write to, with room for two bytes "
            f"per token"
        ) from error
    assert store is not None  # written just now, under the lock
    return store


def cut_between_tokens(
    batch: WindowBatch,
    codes: np.ndarray,
    tokenization: BytePairs,
    store: TokenStore,
    most: int,
) -> WindowBatch:
    """The whole tokens of each window, at most so many, and the bases under them.

    A window that has none is shorter than two tokens: it is encoded on its own, and so is a reverse
    complement, of which the store has nothing.
    """
    windows = [
        _whole_tokens(batch, row, codes, tokenization, store, most)
        for row in range(len(batch.starts))
    ]
    tokens = tuple(len(ids) for _, ids in windows)
    encoded = tuple(int(store.token_bases[ids].sum()) for _, ids in windows)
    ids_BK = np.full((len(windows), most), PAD, np.int32)
    codes_BL = np.full(batch.codes_BL.shape, AMBIGUOUS, np.uint8)
    for row, (start, ids) in enumerate(windows):
        ids_BK[row, : tokens[row]] = ids
        under = codes[start : start + encoded[row]]
        codes_BL[row, : encoded[row]] = (
            reverse_complement(under) if batch.is_reverse(row) else under
        )
    return batch._replace(
        codes_BL=torch.from_numpy(codes_BL),
        bases=encoded,
        bases_B=torch.tensor(encoded),
        ids_BK=torch.from_numpy(ids_BK),
        tokens=tokens,
        tokens_B=torch.tensor(tokens),
        starts=tuple(start for start, _ in windows),
    )


def _whole_tokens(
    batch: WindowBatch,
    row: int,
    codes: np.ndarray,
    tokenization: BytePairs,
    store: TokenStore,
    most: int,
) -> tuple[int, np.ndarray]:
    """Where in the genome the bases under the tokens of a window begin; int32 [K]: the tokens."""
    start, length = batch.starts[row], batch.bases[row]
    if batch.is_reverse(row):
        text = letters_of(reverse_complement(codes[start : start + length]))
        ids = tokenization.encode_texts([text])[0][:most]
        return start + length - int(store.token_bases[ids].sum()), ids
    begin, ids = store.window(start, length)
    if not len(ids):
        (ids,) = tokenization.encode_texts([letters_of(codes[start : start + length])])
        begin = start
    return begin, ids[:most]


def _read(path: Path, wanted: dict[str, Any], token_bases: np.ndarray) -> TokenStore | None:
    """None if there is none, or not this one, or it is damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        manifest = json.loads((path / MANIFEST).read_text())
        if any(manifest[key] != value for key, value in wanted.items()):
            return None
        for name, file in manifest["files"].items():
            status = (path / name).stat()
            if status.st_size != file["size"]:
                return None
            if status.st_mtime_ns != file["mtime_ns"] and hash_file(path / name) != file["sha256"]:
                return None
        tokens, pieces = manifest["tokens"], manifest["pieces"]
        ids = np.memmap(path / IDS, np.dtype("<u2"), "r", shape=(tokens,)) if tokens else _NONE
        starts = np.fromfile(path / PIECES, "<i8").reshape(pieces + 1, 2)
        return TokenStore(np.asarray(ids), starts, token_bases, path)
    return None


_NONE = np.empty(0, np.uint16)


def _write(folder: Path, genome: Genome, tokenization: BytePairs, wanted: dict[str, Any]) -> None:
    with open(folder / IDS, "wb") as handle:
        pieces = _write_ids(handle, genome, tokenization)
        _sync(handle)
    with open(folder / PIECES, "wb") as handle:
        handle.write(pieces.astype("<i8").tobytes())
        _sync(handle)
    files = {}
    for name in (IDS, PIECES):
        status = (folder / name).stat()
        size, time = status.st_size, status.st_mtime_ns
        files[name] = {"size": size, "mtime_ns": time, "sha256": hash_file(folder / name)}
    counts = {"tokens": int(pieces[-1, 1]), "pieces": len(pieces) - 1}
    with atomic_write(folder / MANIFEST) as handle:
        json.dump({**wanted, **counts, "files": files}, handle, indent=1)


def _sync(handle: IO[bytes]) -> None:
    handle.flush()
    os.fsync(handle.fileno())


def _write_ids(handle: IO[bytes], genome: Genome, tokenization: BytePairs) -> np.ndarray:
    """int64 [P + 1, 2]: first base and token of each piece, and what is behind the last one."""
    rows, tokens = [], 0
    total = len(genome.codes)
    with progress_bar(total, "encoding the genome", "b") as advance:
        for start, codes in _blocks(np.asarray(genome.codes)):
            pieces = known_pieces(codes)
            for first in range(0, len(pieces), PIECES_PER_BATCH):
                part = pieces[first : first + PIECES_PER_BATCH]
                texts = [letters_of(codes[a:b]) for a, b in part]
                for (begin, _), ids in zip(part, tokenization.encode_texts(texts), strict=True):
                    rows.append((start + begin, tokens))
                    handle.write(ids.astype("<u2").tobytes())
                    tokens += len(ids)
            advance(len(codes))
    return np.array([*rows, (total, tokens)], np.int64)


def _blocks(codes: np.ndarray) -> "list[tuple[int, np.ndarray]]":
    """Blocks of about 16 million codes, cut behind an unknown base where there is one."""
    blocks, start = [], 0
    while start < len(codes):
        end = min(start + SCAN_BLOCK, len(codes))
        if end < len(codes):
            unknown = np.flatnonzero(codes[start:end] > 3)
            end = start + int(unknown[-1]) + 1 if len(unknown) else end
        blocks.append((start, codes[start:end]))
        start = end
    return blocks
