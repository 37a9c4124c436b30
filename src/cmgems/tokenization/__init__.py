"""How DNA becomes tokens: vocabulary, encode, lengths, what a mask hides. See `base`."""

from cmgems.config.schema import Data
from cmgems.genome.joined import load_pretraining_genome
from cmgems.tokenization.base import Tokenization
from cmgems.tokenization.bases import SingleBases
from cmgems.tokenization.bpe import BytePairs
from cmgems.tokenization.bpe_file import genome_byte_pairs, read_byte_pairs
from cmgems.tokenization.kmers import OverlappingKmers
from cmgems.tokenization.nonoverlapping import NonOverlappingKmers

# By the name that an experiment has for it (`data.tokenization`); byte pairs are read from a file.
TOKENIZATIONS: dict[str, type[OverlappingKmers | SingleBases | NonOverlappingKmers]] = {
    kind.name: kind for kind in (OverlappingKmers, SingleBases, NonOverlappingKmers)
}

__all__ = [
    "TOKENIZATIONS",
    "BytePairs",
    "NonOverlappingKmers",
    "OverlappingKmers",
    "SingleBases",
    "Tokenization",
    "build_tokenization",
]


def build_tokenization(data: Data) -> Tokenization:
    """The tokenization that an experiment names; byte pairs without a file are learned from its
    genome.

    Raises
    ------
    UserError
        If the file or the genome of byte pairs cannot be used.
    """
    if data.tokenization != BytePairs.name:
        return TOKENIZATIONS[data.tokenization](data.k)
    if data.tokenizer:
        return read_byte_pairs(data.tokenizer, data.k)
    return genome_byte_pairs(load_pretraining_genome(data), data.bpe_vocab_size, data.k)
