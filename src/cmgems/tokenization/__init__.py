"""How DNA becomes tokens: vocabulary, encode, lengths, what a mask hides. See `base`."""

from cmgems.config.schema import Data
from cmgems.tokenization.base import Tokenization
from cmgems.tokenization.bases import SingleBases
from cmgems.tokenization.kmers import OverlappingKmers
from cmgems.tokenization.nonoverlapping import NonOverlappingKmers

# By the name that an experiment has for it (`data.tokenization`).
TOKENIZATIONS: dict[str, type[OverlappingKmers | SingleBases | NonOverlappingKmers]] = {
    kind.name: kind for kind in (OverlappingKmers, SingleBases, NonOverlappingKmers)
}

__all__ = [
    "TOKENIZATIONS",
    "NonOverlappingKmers",
    "OverlappingKmers",
    "SingleBases",
    "Tokenization",
    "build_tokenization",
]


def build_tokenization(data: Data) -> Tokenization:
    """The tokenization that an experiment names."""
    return TOKENIZATIONS[data.tokenization](data.k)
