"""Several genomes as one, to pretrain on: a store in the cache that holds a copy of each.

Contig CONTIG of genome NAME is `NAME/CONTIG` there, so that genomes may have contigs of the same
name. The store is named by what is in it: it is built once, whatever the files are called.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmgems.config.schema import Data
from cmgems.errors import UserError
from cmgems.genome.alphabet import AMBIGUOUS
from cmgems.genome.cache import cached_store, load_genome
from cmgems.genome.genome import Genome, genome_name
from cmgems.genome.soft_mask import SOFT_MASK, SoftMaskWriter
from cmgems.genome.spans import SCAN_BLOCK
from cmgems.genome.store import (
    CODES,
    ContigEntry,
    genome_hash,
    read_manifest,
    replace_folder,
    write_manifest,
)
from cmgems.utils.progress import progress_bar

_SEPARATOR = np.array([AMBIGUOUS], np.uint8)


def load_pretraining_genome(data: Data) -> Genome:
    """The genome that an experiment names, or its genomes as one.

    Raises
    ------
    UserError
        If one of them cannot be used.
    """
    return join_genomes(load_members(data)) if data.genomes else load_genome(data.genome)


def load_members(data: Data) -> list[Genome]:
    """The genomes of `data.genomes`, in its order."""
    members = []
    for source in data.genomes:
        try:
            members.append(load_genome(source.path))
        except UserError as error:
            raise UserError(f"data.genomes: {error}") from error
    return members


def join_genomes(members: Sequence[Genome]) -> Genome:
    """The store of genomes one after the other, as contigs are in one: codes `AMBIGUOUS` between.

    Raises
    ------
    UserError
        If one of them does not know the case of its bases, or there is no room.
    """
    labels = member_labels(members)
    for member in members:
        member.soft_mask(0, 0)  # raises if it has none
    manifests = [read_manifest(member.path) for member in members]
    key = "".join(
        f"{label}\t{manifest['sha256']}\t{manifest['soft_mask']['sha256']}\n"
        for label, manifest in zip(labels, manifests, strict=True)
    )
    name = genome_name([Path(label) for label in labels])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]

    def build(store: Path) -> None:
        with replace_folder(store) as folder:
            write_manifest(folder, _manifest(name, labels, manifests) | _copy(members, folder))

    return cached_store(f"{name}-{digest}", build)


def member_labels(members: Sequence[Genome]) -> list[str]:
    """The name of each genome among the others: `chr20`, `chr20-2` where two have it."""
    labels: list[str] = []
    for member in members:
        label, number = member.name, 1
        while label in labels:
            number += 1
            label = f"{member.name}-{number}"
        labels.append(label)
    return labels


def member_starts(members: Sequence[Genome]) -> list[int]:
    """Where the codes of each begin in those of the joined genome."""
    lengths = [len(member.codes) + 1 for member in members]
    return np.cumsum([0, *lengths[:-1]]).tolist()


def _manifest(
    name: str, labels: Sequence[str], manifests: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """What is known before the codes are copied. There are no sources whose change would matter."""
    contigs: list[ContigEntry] = [
        contig | {"name": f"{label}/{contig['name']}"}
        for label, manifest in zip(labels, manifests, strict=True)
        for contig in manifest["contigs"]
    ]
    return {
        "name": name,
        "bases": sum(contig["length"] for contig in contigs),
        "contigs": contigs,
        "sha256": genome_hash(contigs),
        "sources": [],
    }


def _copy(members: Sequence[Genome], folder: Path) -> dict[str, Any]:
    """Copy the codes and soft masks; what the manifest says of the latter."""
    total = sum(len(member.codes) for member in members)
    with (
        open(folder / CODES, "wb") as codes,
        open(folder / SOFT_MASK, "wb") as mask,
        progress_bar(total, "joining genomes", "b") as advance,
    ):
        writer = SoftMaskWriter(mask)
        for number, member in enumerate(members):
            if number:
                codes.write(_SEPARATOR.data)
                writer.add(np.zeros(1, np.uint64), 0, 1)
            for first in range(0, len(member.codes), SCAN_BLOCK):
                part = np.asarray(member.codes[first : first + SCAN_BLOCK])
                codes.write(part.data)
                writer.add(_soft_mask_words(member, first, len(part)), 0, len(part))
                advance(len(part))
        codes.flush()
        os.fsync(codes.fileno())
        return {"soft_mask": writer.finish()}


def _soft_mask_words(genome: Genome, first: int, count: int) -> np.ndarray:
    """uint64 [ceil(count / 64)]: the soft mask from code `first`, a multiple of 8, on."""
    assert genome.soft_mask_bits is not None  # checked before
    bits = np.zeros(-(-count // 64) * 8, np.uint8)
    stored = genome.soft_mask_bits[first // 8 : -(-(first + count) // 8)]
    bits[: len(stored)] = stored
    return bits.view("<u8").astype(np.uint64, copy=False)
