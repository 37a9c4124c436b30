"""Running losses of the k-mers: difficulty as the model itself sees it."""

import torch
from torch import Tensor

UNIT = 1 << 16  # losses are summed in whole numbers of 1 / UNIT nats: exact in any order


class KmerLosses(torch.nn.Module):
    """The running mean of the loss of each k-mer, and the ranks that follow from it.

    Ranks change only in `refresh`, which the curriculum calls after each validation, on all ranks
    of a distributed run alike; what was seen before weighs half with every refresh. Sums are whole
    numbers, so they depend neither on the order of addition nor on the number of processes.

    Parameters
    ----------
    rank_V : int32 [V]
        By PMI: the first ranks, and what breaks ties.
    """

    def __init__(self, rank_V: Tensor):
        super().__init__()
        self.register_buffer("rank_V", rank_V.clone())
        self.register_buffer("sums_V2", torch.zeros(len(rank_V), 2, dtype=torch.int64))
        self.register_buffer("pmi_rank_V", rank_V, persistent=False)
        # What this process alone has seen, since the ranks last added up: no buffer, since those
        # are alike on all processes.
        self._pending_V2: Tensor | None = None

    def observe(self, index_M: Tensor, nats_M: Tensor) -> None:
        """Note the losses (nats) of masked tokens, given as int64 index of their k-mers; one below
        0 stands for nothing."""
        if self._pending_V2 is None:
            self._pending_V2 = torch.zeros_like(self.sums_V2)
        units_M = (nats_M.detach().double() * UNIT).round().long()
        seen_M2 = torch.stack([units_M, torch.full_like(units_M, UNIT)], dim=1)
        seen_M2 *= (index_M >= 0)[:, None]
        self._pending_V2.index_add_(0, index_M.clamp(min=0), seen_M2)

    def collect(self, add_up) -> None:
        """Take in what all processes have observed; `add_up` sums a tensor over them."""
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
