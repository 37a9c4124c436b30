"""`cmgems embed`: a file of sequences -> a file of vectors, a batch of sequences at a time."""

import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.formats.reader import Sequence, read_sequences
from cmgems.hub.pretrained import Pretrained
from cmgems.inference.embedding import LAST, embed_sequences, embed_tokens, resolve_layers
from cmgems.tasks.dataset import Sequences, pack_codes
from cmgems.tokenization import Tokenization
from cmgems.utils.files import atomic_write

SEQUENCES_PER_BATCH = 256

NamedVectors: TypeAlias = tuple[list[str], np.ndarray]


def read_tokenizable_sequences(path: Path, tokenization: Tokenization) -> Iterator[Sequence]:
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
    model: Pretrained, path: Path, out: Path, pool: str = "mean", layers: tuple[int, ...] = LAST
) -> int:
    """Write the vectors of all sequences; return how many there are.

    Parameters
    ----------
    out : .npz or .tsv; see `cmgems embed --help` for what they hold
    pool : mean, cls, max, mean_max, or tokens (.npz only)
    layers : see `cmgems.inference.embedding.resolve_layers`
    """
    encoder, tokenization = model.model.encoder, model.tokenization
    try:
        chosen = resolve_layers(layers, encoder.config.num_layers)
    except ValueError as error:
        raise UserError(f"--layers: {error}") from error
    sequences = read_tokenizable_sequences(path, tokenization)
    with atomic_write(out, "wb") as handle:
        if pool == "tokens":
            by_token = (
                (s.name, embed_tokens(encoder, s.codes, tokenization, chosen)) for s in sequences
            )
            return _write_tokens(handle, by_token)
        embed = partial(
            embed_sequences, encoder, tokenization=tokenization, pool=pool, layers=chosen
        )
        rows = _pooled_rows(sequences, embed)
        return _write_tsv(handle, rows) if out.suffix == ".tsv" else _write_npz(handle, rows)


def _pooled_rows(
    sequences: Iterator[Sequence], embed: Callable[[Sequences], np.ndarray]
) -> Iterator[NamedVectors]:
    """Names and vectors [B, D] of a batch of sequences at a time."""
    while batch := list(islice(sequences, SEQUENCES_PER_BATCH)):
        data = pack_codes(s.codes for s in batch)
        yield [s.name for s in batch], embed(data)


def _write_tsv(handle: IO[bytes], rows: Iterator[NamedVectors]) -> int:
    count = 0
    for names, vectors in rows:
        for name, vector in zip(names, vectors, strict=True):
            numbers = "\t".join(f"{x:.6g}" for x in vector)
            handle.write(f"{name}\t{numbers}\n".encode())
        count += len(names)
    return count


def _write_npz(handle: IO[bytes], rows: Iterator[NamedVectors]) -> int:
    names: list[str] = []
    vectors = []
    for batch_names, batch_vectors in rows:
        names += batch_names
        vectors.append(batch_vectors)
    np.savez(handle, names=np.array(names, str), vectors=np.concatenate(vectors))
    return len(names)


def _write_tokens(handle: IO[bytes], rows: Iterator[tuple[str, np.ndarray]]) -> int:
    """One array per sequence, written at once: the hidden states of a genome fit no memory."""
    names = []
    with zipfile.ZipFile(handle, "w") as archive:
        for number, (name, hidden_states) in enumerate(rows):
            with archive.open(f"{number}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, hidden_states, allow_pickle=False)
            names.append(name)
        with archive.open("names.npy", "w") as entry:
            np.lib.format.write_array(entry, np.array(names, str), allow_pickle=False)
    return len(names)
