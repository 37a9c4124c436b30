"""Centre rates cached on disk: solving for them takes seconds, and every run needs them again."""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cmgems.tokenization.base import Tokenization
from cmgems.utils.files import atomic_write

# To be raised whenever a strategy, the draws, the tokens or the solver change what they give for
# the same inputs: rates cached by an older version are then solved again.
VERSION = 1


class RateCache:
    """Rates in a folder, each under a digest of everything that it depends on.

    `VERSION` is part of the digest: rates that were solved under other rules are never read.

    Parameters
    ----------
    folder : Path
        Made if needed; if it cannot be written to, nothing is cached.
    corpus_BK : int32 [N, K]
    rank_V : int32 [V]
    tokenization : Tokenization
    """

    def __init__(self, folder: Path, corpus_BK: Tensor, rank_V: Tensor, tokenization: Tokenization):
        self.folder = folder
        digest = hashlib.sha256(f"{tokenization} {tuple(corpus_BK.shape)} {VERSION}".encode())
        for tensor in (corpus_BK, rank_V):
            digest.update(tensor.contiguous().numpy().tobytes())
        self._digest = digest.digest()

    def rates(self, cache_key: tuple, solve: Callable[[], Tensor]) -> Tensor:
        """float32 [K + 1]: those that are cached for `cache_key` (names and numbers), else solved
        ones, which are cached from then on."""
        digest = hashlib.sha256(self._digest + repr(cache_key).encode())
        path = self.folder / f"{digest.hexdigest()[:32]}.npy"
        with contextlib.suppress(OSError, ValueError, EOFError):  # not there, or damaged: solve
            return torch.from_numpy(np.load(path, allow_pickle=False))
        rates = solve()
        with contextlib.suppress(OSError):  # a store that we may not write to
            self.folder.mkdir(exist_ok=True)
            with atomic_write(path, "wb") as handle:
                np.save(handle, rates.numpy())
        return rates
