"""The alphabet: bases as codes (uint8), A T C G = 0 1 2 3, anything else = 4."""

import numpy as np

BASES = "ATCG"
AMBIGUOUS = 4  # the base code of N and of everything else that is not A, T, C or G


def encode_bases(sequence: str) -> np.ndarray:
    """Base codes (uint8, [len(sequence)]) of a sequence in either case."""
    table = np.full(256, AMBIGUOUS, np.uint8)
    for code, base in enumerate(BASES):
        table[[ord(base), ord(base.lower())]] = code
    return table[np.frombuffer(sequence.encode("latin-1"), np.uint8)]


def reverse_complement(codes: np.ndarray) -> np.ndarray:
    """The other strand: base codes, uint8 [..., L], reversed, A for T and C for G.

    >>> reverse_complement(encode_bases("AACGN")).tolist() == encode_bases("NCGTT").tolist()
    True
    """
    return np.where(codes < AMBIGUOUS, codes ^ 1, codes)[..., ::-1].copy()
