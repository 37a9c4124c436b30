"""`cmgems embed`: a file of sequences -> a file of vectors, a batch of sequences at a time."""

import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmgems.downstream.embedding import per_token, pooled
from cmgems.downstream.labelled import pack_codes
from cmgems.errors import UserError
from cmgems.files import replacing
from cmgems.pretrained import Pretrained
from cmgems.sequence_files import read_pieces

AT_ONCE = 256  # sequences


class Sequence(NamedTuple):
    name: str
    codes: np.ndarray  # uint8 base codes


def sequences(path: Path, shortest: int = 1) -> Iterator[Sequence]:
    """The sequences of a file, one after the other; only one is held whole.

    Raises
    ------
    UserError
        If the file cannot be used, or a sequence has fewer than `shortest` bases.
    """
    name, parts = None, []
    for piece in read_pieces(path):
        for segment in piece.segments:
            if segment.name is not None:
                if name is not None:
                    yield _whole(path, name, parts, shortest)
                name, parts = segment.name, []
            parts.append(piece.codes[segment.start : segment.stop].copy())
    if name is not None:
        yield _whole(path, name, parts, shortest)


def _whole(path: Path, name: str, parts: list[np.ndarray], shortest: int) -> Sequence:
    codes = np.concatenate(parts)
    if len(codes) < shortest:
        raise UserError(
            f"{path}: {name} has {len(codes)} bases, wanted at least {shortest}, the k of the model"
        )
    return Sequence(name, codes)


def embed_file(
    model: Pretrained, path: Path, out: Path, pool: str = "mean", layer: int | None = None
) -> int:
    """Write the vectors of all sequences; return how many there are.

    Parameters
    ----------
    out : .npz or .tsv; see `cmgems embed --help` for what they hold
    pool : mean, cls, max, or tokens (.npz only)
    layer : 0 the embeddings, 1 the first layer, ...; None: the last
    """
    encoder, k = model.model.encoder, model.k
    if layer is not None and not 0 <= layer <= encoder.shape.layers:
        raise UserError(f"--layer: found {layer}, wanted 0 to {encoder.shape.layers}")
    found = sequences(path, k)
    with replacing(out, "wb") as handle:
        if pool == "tokens":
            states = ((s.name, per_token(encoder, s.codes, k, layer)) for s in found)
            return _write_tokens(handle, states)
        rows = _pooled_rows(encoder, found, k, pool, layer)
        return _write_tsv(handle, rows) if out.suffix == ".tsv" else _write_npz(handle, rows)


def _pooled_rows(encoder, found, k, pool, layer) -> Iterator[tuple[list[str], np.ndarray]]:
    while part := list(islice(found, AT_ONCE)):
        data = pack_codes(s.codes for s in part)
        yield [s.name for s in part], pooled(encoder, data, k, pool, layer)


def _write_tsv(handle, rows) -> int:
    count = 0
    for names, vectors in rows:
        for name, vector in zip(names, vectors, strict=True):
            numbers = "\t".join(f"{x:.6g}" for x in vector)
            handle.write(f"{name}\t{numbers}\n".encode())
        count += len(names)
    return count


def _write_npz(handle, rows) -> int:
    names, vectors = [], []
    for its_names, its_vectors in rows:
        names += its_names
        vectors.append(its_vectors)
    np.savez(handle, names=np.array(names, str), vectors=np.concatenate(vectors))
    return len(names)


def _write_tokens(handle, rows) -> int:
    """An array a sequence, each written when it is there: genomes of states fit no memory."""
    names = []
    with zipfile.ZipFile(handle, "w") as archive:
        for number, (name, states) in enumerate(rows):
            with archive.open(f"{number}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, states, allow_pickle=False)
            names.append(name)
        with archive.open("names.npy", "w") as entry:
            np.lib.format.write_array(entry, np.array(names, str), allow_pickle=False)
    return len(names)
