"""Centre rates kept on disk: solving for them takes seconds, and every run asks for them again."""

import contextlib
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cmgems.tokenization import kmers
from cmgems.utils import rng as draws
from cmgems.utils.files import replacing


class KeptRates:
    """Rates in a folder, each under a digest of everything that it depends on.

    The source code of masking, draws and tokens is part of the digest: rates of another version
    are not found.

    Parameters
    ----------
    folder : Path
        Made if needed; if it cannot be written to, nothing is kept.
    corpus_BT : int32 [N, T]
    rank_V : int32 [V]
    k : int
    """

    def __init__(self, folder: Path, corpus_BT: Tensor, rank_V: Tensor, k: int):
        self.folder = folder
        self._digest = hashlib.sha256(f"{k} {tuple(corpus_BT.shape)} {_source_digest()}".encode())
        for tensor in (corpus_BT, rank_V):
            self._digest.update(tensor.contiguous().numpy())

    def rates(self, about: tuple, solve: Callable[[], Tensor]) -> Tensor:
        """float32 [T + 1]: those that are kept for `about` (names and numbers), else solved ones,
        which are kept from then on."""
        digest = self._digest.copy()
        digest.update(repr(about).encode())
        path = self.folder / f"{digest.hexdigest()[:32]}.npy"
        with contextlib.suppress(OSError, ValueError, EOFError):  # not there, or damaged: solve
            return torch.from_numpy(np.load(path, allow_pickle=False))
        rates = solve()
        with contextlib.suppress(OSError):  # a store that we may not write to
            self.folder.mkdir(exist_ok=True)
            with replacing(path, "wb") as handle:
                np.save(handle, rates.numpy())
        return rates


@cache
def _source_digest() -> str:
    masking = sorted(Path(__file__).parent.glob("*.py"))
    sources = [*masking, Path(draws.__file__), Path(kmers.__file__)]
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()
