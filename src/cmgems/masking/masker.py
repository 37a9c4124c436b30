"""From base codes to what the encoder reads and has to predict, on the device of the codes.

Shapes: B windows, L bases, K k-mer tokens of the longest window, T packed tokens ([CLS] and [SEP]
included), M masked tokens.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmgems.config import Masking
from cmgems.draws import uniforms
from cmgems.encoder import Layout
from cmgems.kmers import CLS, FIRST_KMER, SEP, token_ids
from cmgems.masking import STRATEGIES
from cmgems.masking.budget import solve_rates
from cmgems.masking.corrupt import corrupt
from cmgems.masking.tokens import Tokens
from cmgems.windows import WindowBatch

CENTRES, CORRUPTION = 0, 1  # purposes of draws; corruption also takes the next one


class MaskedBatch(NamedTuple):
    """Packed and corrupted tokens, and the targets at the masked ones."""

    ids_T: Tensor  # int32, what the encoder sees
    layout: Layout
    at_M: Tensor  # int64, packed places of the masked tokens, ascending
    targets_M: Tensor  # int64, their true ids
    maskable: Tensor  # int64 scalar, number of tokens that could have been masked


class Masker(nn.Module):
    """Masks batches with any of its strategies, each at its own centre rate.

    Parameters
    ----------
    k : int
    rank_V : int32 tensor [4**k]
        Rank of each k-mer, 1 = first to mask.
    rates : dict of strategy name -> float32 tensor [K + 1]
        Centre rate by number of maskable tokens.
    """

    def __init__(self, k: int, rank_V: Tensor, rates: dict[str, Tensor]):
        super().__init__()
        self.k = k
        # Derived from the genome and the experiment, both of which a resumed run reads again.
        self.register_buffer("rank_V", rank_V, persistent=False)
        for name, rate in rates.items():
            self.register_buffer(f"rate_{name}", rate, persistent=False)

    @torch.no_grad()
    def forward(self, batch: WindowBatch, strategy: str) -> MaskedBatch:
        ids_BK = token_ids(batch.codes_BL, self.k)
        mask_BK, maskable_BK = self.mask(ids_BK, batch.keys_B2, strategy)
        lengths = tuple(bases - self.k + 1 for bases in batch.bases)
        ids_T, mask_T, row_T, place_T = pack(ids_BK, mask_BK, lengths)
        at_M = mask_T.nonzero()[:, 0]
        targets_M = ids_T[at_M]
        keys_M2 = batch.keys_B2[row_T[at_M]]
        ids_T[at_M] = corrupt(targets_M, keys_M2, place_T[at_M].int(), self.k, CORRUPTION)
        layout = Layout(tuple(length + 2 for length in lengths), place_T)
        return MaskedBatch(ids_T, layout, at_M, targets_M.long(), maskable_BK.sum())

    def mask(self, ids_BK: Tensor, keys_B2: Tensor, strategy: str) -> tuple[Tensor, Tensor]:
        """The mask and what could have been masked, bool [B, K] each."""
        maskable_BK = ids_BK >= FIRST_KMER
        rate_L = self.get_buffer(f"rate_{strategy}")
        places_K = torch.arange(ids_BK.shape[1], dtype=torch.int32, device=ids_BK.device)
        tokens = Tokens(
            self.k,
            ids_BK,
            maskable_BK,
            uniforms(keys_B2[:, None], places_K, CENTRES),
            rate_L[maskable_BK.sum(1, keepdim=True)],
            self.rank_V,
        )
        return STRATEGIES[strategy](tokens), maskable_BK


def pack(
    ids_BK: Tensor, mask_BK: Tensor, lengths: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Drop the padding and put [CLS] in front and [SEP] behind each sequence.

    Returns
    -------
    ids [T] int32, mask [T] bool, row [T] int64 (which sequence), place [T] int64 (where in it)
    """
    device = ids_BK.device
    lengths_B = torch.tensor(lengths, device=device)
    ids_BT = F.pad(ids_BK, (1, 1), value=CLS)
    ids_BT.scatter_(1, lengths_B[:, None] + 1, SEP)
    mask_BT = F.pad(mask_BK, (1, 1))
    row_T = torch.arange(len(lengths), device=device).repeat_interleave(
        lengths_B + 2, output_size=sum(lengths) + 2 * len(lengths)
    )
    starts_B = (lengths_B + 2).cumsum(0) - lengths_B - 2
    place_T = torch.arange(len(row_T), device=device) - starts_B[row_T]
    return ids_BT[row_T, place_T], mask_BT[row_T, place_T], row_T, place_T


def centre_rates(
    masking: Masking, strategies: set[str], corpus_BK: Tensor, rank_V: Tensor, k: int
) -> dict[str, Tensor]:
    """Centre rate of each strategy by number of maskable tokens: one budget, or the paper's."""
    # In the same order on all ranks: DDP pairs their buffers by order.
    names = sorted(strategies)
    if masking.center_rate == "paper":
        longest = corpus_BK.shape[1]
        paper = paper_rates(k)
        return {name: torch.full((longest + 1,), paper[name]) for name in names}
    return {
        name: solve_rates(STRATEGIES[name], corpus_BK, rank_V, k, masking.mask_fraction)
        for name in names
    }


def paper_rates(k: int) -> dict[str, float]:
    """0.15 over the mean width of a strategy's windows, as if windows never overlapped."""
    plain, wide = k, 2 * k - 1
    widths = {
        "random": plain,
        "random_wide": wide,
        "genemask": (plain + wide) / 2,
        "global_pmi": wide,
    }
    return {name: 0.15 / width for name, width in widths.items()}
