"""Running losses of the k-mers: difficulty as the model itself sees it."""

from collections.abc import Callable

import torch
from torch import Tensor

UNIT = 1 << 16  # losses are summed as integers in units of 1 / UNIT nats: exact in any order


class KmerLosses(torch.nn.Module):
    """The running mean of the loss of each k-mer, and the ranks that follow from it.

    Ranks change only in `refresh`, which the curriculum calls after each validation, alike on all
    processes of a distributed run; each refresh halves the weight of earlier losses. Sums are
    integers, so they depend neither on the order of addition nor on the number of processes.

    Parameters
    ----------
    rank_V : int32 [V]
        The ranks by PMI: the initial ranks, which also break ties.
    """

    rank_V: Tensor
    sums_V2: Tensor  # int64: loss in units, observations in units
    pmi_rank_V: Tensor

    def __init__(self, rank_V: Tensor) -> None:
        super().__init__()
        self.register_buffer("rank_V", rank_V.clone())
        self.register_buffer("sums_V2", torch.zeros(len(rank_V), 2, dtype=torch.int64))
        self.register_buffer("pmi_rank_V", rank_V, persistent=False)
        # What this process alone has observed since the last `collect`. It is not a buffer, since
        # buffers are alike on all processes.
        self._pending_V2: Tensor | None = None

    def observe(self, index_M: Tensor, loss_M: Tensor) -> None:
        """Add the losses (nats) of masked tokens.

        Parameters
        ----------
        index_M : int64 [M], the k-mer of each token; a token with an index below 0 is ignored
        loss_M : float [M]
        """
        if self._pending_V2 is None:
            self._pending_V2 = torch.zeros_like(self.sums_V2)
        units_M = (loss_M.detach().double() * UNIT).round().long()
        observed_M2 = torch.stack([units_M, torch.full_like(units_M, UNIT)], dim=1)
        observed_M2 *= (index_M >= 0)[:, None]
        self._pending_V2.index_add_(0, index_M.clamp(min=0), observed_M2)

    def collect(self, add_up: Callable[[Tensor], Tensor]) -> None:
        """Add what all processes have observed; `add_up` sums a tensor over them."""
        pending = self._pending_V2
        self._pending_V2 = None
        self.sums_V2 += add_up(torch.zeros_like(self.sums_V2) if pending is None else pending)

    def refresh(self) -> None:
        """Rank by the means, then halve the weight of the past."""
        total_V, count_V = self.sums_V2.unbind(1)
        mean_V = torch.where(count_V > 0, total_V.double() / count_V.clamp(min=1), float("inf"))
        by_pmi_V = self.pmi_rank_V.argsort()
        order_V = by_pmi_V[mean_V[by_pmi_V].argsort(descending=True, stable=True)]
        self.rank_V[order_V] = torch.arange(1, len(order_V) + 1, device=order_V.device).int()
        self.sums_V2 >>= 1
