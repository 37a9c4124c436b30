"""K-mer tokens: DNABERT's vocabulary, and base codes -> token ids.

Base codes are uint8, A T C G = 0 1 2 3, anything else = 4. Token ids are [PAD] 0, [UNK] 1,
[CLS] 2, [SEP] 3, [MASK] 4, then the 4**k k-mers in base order A T C G (AAAAAA = 5, AAAAAT = 6).
A k-mer with an ambiguous base is [UNK]. The *index* of a k-mer is its id - 5: 0 .. 4**k - 1, the
order of counts and rank tables.
"""

from itertools import product

import numpy as np
import torch
from torch import Tensor

from cmgems.genome.alphabet import BASES
from cmgems.utils.kernels import as_numpy, kernel, use_cpu_kernels

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNK, CLS, SEP, MASK = range(5)
FIRST_KMER = len(SPECIAL_TOKENS)
K_VALUES = (3, 4, 5, 6)  # DNABERT's


def vocabulary(k: int) -> list[str]:
    """All tokens in the order of their ids; equal to DNABERT's `vocab.txt` for this k."""
    return [*SPECIAL_TOKENS, *("".join(kmer) for kmer in product(BASES, repeat=k))]


def vocabulary_size(k: int) -> int:
    return FIRST_KMER + 4**k


def token_ids(codes: Tensor, k: int) -> Tensor:
    """Ids of the overlapping k-mers of base codes, on the codes' own device.

    Parameters
    ----------
    codes : uint8 tensor [..., L]
    k : int

    Returns
    -------
    int32 tensor [..., L - k + 1]; [UNK] where one of the k bases is ambiguous.

    Raises
    ------
    ValueError
        If L < k.
    """
    tokens = codes.shape[-1] - k + 1
    if tokens < 1:
        raise ValueError(f"a sequence of {codes.shape[-1]} bases has no {k}-mer")
    if use_cpu_kernels(codes):
        ids_BT = torch.empty((*codes.shape[:-1], tokens), dtype=torch.int32)
        _token_ids(
            as_numpy(codes.reshape(-1, codes.shape[-1])), k, as_numpy(ids_BT.view(-1, tokens))
        )
        return ids_BT
    base, ambiguous = (codes & 3).int(), (codes > 3).int() * 4**k
    index = torch.zeros_like(base[..., :tokens])
    for offset in range(k):
        place = slice(offset, offset + tokens)
        # An ambiguous base lifts the sum to 4**k or more, whatever the other bases are.
        index += (base[..., place] << 2 * (k - 1 - offset)) + ambiguous[..., place]
    return torch.where(index < 4**k, index + FIRST_KMER, UNK)


@kernel
def _token_ids(codes_BL, k, ids_BT):
    tokens = ids_BT.shape[1]
    limit = np.int32(1) << np.int32(2 * k)
    for b in range(len(codes_BL)):
        codes, ids = codes_BL[b], ids_BT[b]
        for t in range(tokens):
            ids[t] = 0
        for offset in range(k):
            shift = np.int32(2 * (k - 1 - offset))
            for t in range(tokens):
                code = np.int32(codes[t + offset])
                # An ambiguous base lifts the sum beyond every k-mer, whatever the others are.
                ids[t] += ((code & np.int32(3)) << shift) + (code >> np.int32(2)) * limit
        for t in range(tokens):
            ids[t] = ids[t] + np.int32(FIRST_KMER) if ids[t] < limit else np.int32(UNK)
