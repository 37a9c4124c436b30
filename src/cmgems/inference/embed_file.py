"""`cmgems embed`: a file of sequences -> a file of vectors, a batch of sequences at a time."""

import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.formats.reader import Sequence, read_sequences
from cmgems.hub.pretrained import Pretrained
from cmgems.inference.embedding import per_token, pooled
from cmgems.models.encoder import Encoder
from cmgems.tasks.dataset import pack_codes
from cmgems.tokenization import Tokenization
from cmgems.utils.files import atomic_write

AT_ONCE = 256  # sequences


def model_sequences(path: Path, tokenization: Tokenization) -> Iterator[Sequence]:
    """The sequences of a file, each checked to be long enough to have a token.

    Raises
    ------
    UserError
        If the file cannot be used, or a sequence is too short.
    """
    for sequence in read_sequences(path):
        if len(sequence.codes) < tokenization.min_bases:
            raise UserError(
                f"{path}: {sequence.name} has {len(sequence.codes)} bases, wanted at least "
                f"{tokenization.min_bases}: the model's tokens are {tokenization.description}"
            )
        yield sequence


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
    encoder, tokenization = model.model.encoder, model.tokenization
    if layer is not None and not 0 <= layer <= encoder.config.num_layers:
        raise UserError(f"--layer: found {layer}, wanted 0 to {encoder.config.num_layers}")
    found = model_sequences(path, tokenization)
    with atomic_write(out, "wb") as handle:
        if pool == "tokens":
            states = ((s.name, per_token(encoder, s.codes, tokenization, layer)) for s in found)
            return _write_tokens(handle, states)
        rows = _pooled_rows(encoder, found, tokenization, pool, layer)
        return _write_tsv(handle, rows) if out.suffix == ".tsv" else _write_npz(handle, rows)


def _pooled_rows(
    encoder: Encoder,
    found: Iterator[Sequence],
    tokenization: Tokenization,
    pool: str,
    layer: int | None,
) -> Iterator[tuple[list[str], np.ndarray]]:
    while part := list(islice(found, AT_ONCE)):
        data = pack_codes(s.codes for s in part)
        yield [s.name for s in part], pooled(encoder, data, tokenization, pool, layer)


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
