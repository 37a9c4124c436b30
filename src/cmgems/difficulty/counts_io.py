"""K-mer counts as a file, which counts of further genomes can be added to.

cmgems k-mer counts 1 SHA256          a line; the checksum is over everything after it
{"k": 6, "both_strands": false, ...}  a line of JSON
int64, little-endian                  the tables of words of 1, 2, ... k bases, one by one
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from cmgems.difficulty.count_kernels import shorter_offset
from cmgems.difficulty.counts import KmerCounts
from cmgems.errors import UserError
from cmgems.utils.files import atomic_write

MAGIC = b"cmgems k-mer counts "
VERSION = 1
_WANTED = "wanted: a file that `cmgems pmi --counts-out` wrote"


def is_counts_file(path: Path) -> bool:
    """Whether a file exists and begins like one of `write_counts`."""
    try:
        with open(path, "rb") as handle:
            return handle.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def write_counts(counts: KmerCounts, path: str | os.PathLike[str]) -> None:
    """Write counts so that `read_counts` finds any damage."""
    metadata = {"k": counts.k, "both_strands": counts.both_strands, "genomes": list(counts.genomes)}
    header = json.dumps(metadata).encode() + b"\n"
    body = np.concatenate(counts.tables).astype("<i8").tobytes()
    checksum = hashlib.sha256(header)
    checksum.update(body)
    with atomic_write(path, "wb") as handle:
        handle.write(MAGIC + f"{VERSION} {checksum.hexdigest()}\n".encode() + header + body)


def read_counts(path: str | os.PathLike[str]) -> KmerCounts:
    """The counts that `write_counts` wrote.

    Raises
    ------
    UserError
        If it is not a file of counts, is of another version, truncated or damaged.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {_WANTED}") from error
    first, _, rest = data.partition(b"\n")
    if not first.startswith(MAGIC):
        raise UserError(f"{path}: is not a file of k-mer counts; {_WANTED}")
    version, _, checksum = first[len(MAGIC) :].partition(b" ")
    if version != str(VERSION).encode():
        shown = version[:20].decode("ascii", "replace")
        raise UserError(f"{path}: holds counts of version {shown}, this cmgems reads {VERSION}")
    if checksum != hashlib.sha256(rest).hexdigest().encode():
        raise UserError(f"{path}: is truncated or damaged (its checksum is wrong); {_WANTED}")
    header, _, body = rest.partition(b"\n")
    metadata = json.loads(header)
    flat = np.frombuffer(body, "<i8").astype(np.int64)
    tables = tuple(
        flat[shorter_offset(j) : shorter_offset(j + 1)] for j in range(1, metadata["k"] + 1)
    )
    return KmerCounts(tables, metadata["both_strands"], tuple(metadata["genomes"]))
