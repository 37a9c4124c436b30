"""Sequences that a program passes, checked and turned into base codes.

>>> [codes.tolist() for codes in encode_user_sequences(["ACgtN", "TTU"])]
[[0, 2, 3, 1, 4], [1, 1, 1]]
"""

from collections.abc import Iterable, Sequence

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.alphabet import AMBIGUOUS
from cmgems.tasks.readers import parse_sequence


def encode_user_sequences(
    sequences: Sequence[str | np.ndarray], min_bases: int = 1
) -> list[np.ndarray]:
    """Base codes of sequences, uint8 [L] each: A T C G = 0 1 2 3, any other IUPAC code = 4.

    Parameters
    ----------
    sequences : text in either case, U for T, or base codes as `Genome.codes` has them
    min_bases : bases that the shortest sequence must have

    Raises
    ------
    UserError
        With the place of the sequence, if one is too short or is not DNA.
    """
    if isinstance(sequences, str | bytes) or not isinstance(sequences, Iterable):
        found = "one sequence" if isinstance(sequences, str | bytes) else type(sequences).__name__
        raise UserError(f"sequences: found {found}, wanted a list of sequences")
    encoded = []
    for number, sequence in enumerate(sequences):
        where = f"sequences[{number}]"
        codes = _encode(where, sequence)
        if len(codes) < min_bases:
            raise UserError(f"{where}: has {len(codes)} bases, wanted at least {min_bases}")
        encoded.append(codes)
    return encoded


def _encode(where: str, sequence: str | np.ndarray) -> np.ndarray:
    if isinstance(sequence, str):
        return parse_sequence(where, sequence.encode("latin-1", "replace"))
    if not isinstance(sequence, np.ndarray) or sequence.dtype != np.uint8 or sequence.ndim != 1:
        kind = type(sequence).__name__
        if isinstance(sequence, np.ndarray):
            kind = f"an array {sequence.dtype} {list(sequence.shape)}"
        raise UserError(f"{where}: found {kind}, wanted text or an array of base codes, uint8 [L]")
    if sequence.size and sequence.max() > AMBIGUOUS:
        raise UserError(f"{where}: found the base code {sequence.max()}, wanted 0 to {AMBIGUOUS}")
    return np.array(sequence)  # a slice of a genome cannot be written, which torch warns of
