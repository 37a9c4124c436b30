"""Helpers of the genome tests: stores from bytes, and what they hold."""

import struct
import zlib
from pathlib import Path

from cmgems.genome.genome import Genome, build_genome


def build(folder: Path, data: bytes, name: str = "g.fa") -> Genome:
    """The store of a file with these bytes."""
    source = folder / name
    source.write_bytes(data)
    return build_genome([source], folder / "store", progress=False)


def contents(genome: Genome) -> list[tuple[str, list[int]]]:
    """Names and codes of the contigs."""
    return [(c.name, genome.codes[c.start : c.start + c.length].tolist()) for c in genome.contigs]


def bgzip(data: bytes, block: int = 1000) -> bytes:
    """The data as a bgzip file (SAM specification, section 4.1), in blocks of `block` bytes."""
    blocks = [data[i : i + block] for i in range(0, len(data), block)]
    return b"".join(_bgzip_block(b) for b in [*blocks, b""])


def _bgzip_block(data: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = packer.compress(data) + packer.flush()
    head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", len(body) + 25)
    return head + body + struct.pack("<2I", zlib.crc32(data), len(data))
