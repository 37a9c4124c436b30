"""From base codes to what the encoder reads and has to predict, on the device of the codes."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmgems.data_modules.windows import WindowBatch, with_tokens
from cmgems.difficulty.running_loss import KmerLosses
from cmgems.masking.ops import draw_centers
from cmgems.masking.packing import (
    BERT,
    CorruptionProbabilities,
    Packed,
    PackedShape,
    pack,
    pack_into,
)
from cmgems.masking.rates import CenterRates
from cmgems.masking.registry import strategy
from cmgems.masking.strategies import STRATEGIES
from cmgems.masking.types import (
    CENTERS,
    MIXING,
    RankTables,
    StrategyInput,
    StrategyParams,
    Tuned,
)
from cmgems.models.layouts import SequenceLayout
from cmgems.tokenization.base import Tokenization
from cmgems.utils.rng import derive_key, sequence_keys, uniform_tensor

DEFAULTS = StrategyParams()
MEASURED_WINDOWS = 512  # for the fraction of tokens that a budget in hidden bases masks


class MaskingPlan(NamedTuple):
    """How a batch is masked: by one strategy, or each sequence by one of two."""

    strategies: tuple[str, ...]
    second_probability: float = 0.0  # probability that a sequence is masked by the second
    params: StrategyParams = DEFAULTS


class MaskedBatch(NamedTuple):
    """Packed and corrupted tokens, and the targets at the masked ones."""

    ids_T: Tensor  # int32, what the encoder sees
    layout: SequenceLayout
    at_M: Tensor  # int64, packed positions of the masked tokens, ascending
    targets_M: Tensor  # int64, their true ids; IGNORED where a position does not count
    mask_BK: Tensor  # bool, the same before packing
    maskable_BK: Tensor  # bool
    counts_S2: Tensor  # int64, masked and maskable tokens by strategy of the plan
    ids_BK: Tensor  # int32, the tokens before packing and corruption

    @property
    def maskable(self) -> Tensor:
        """int64 scalar: tokens that could have been masked."""
        return self.counts_S2[:, 1].sum()

    def at_masked(self, values_BK: Tensor) -> Tensor:
        """[M]: a value of each token, at the positions of `at_M`; where a position does not count,
        that of another token, or 0."""
        if self.layout.cu_seqlens is None:
            return values_BK[self.mask_BK]
        ends_B = self.layout.cu_seqlens[1 : len(values_BK) + 1]
        row_M = torch.searchsorted(ends_B, self.at_M, right=True).clamp(max=len(values_BK) - 1)
        position_M = self.layout.position_ids[self.at_M]
        return F.pad(values_BK, (1, 1))[row_M, position_M]


class Masker(nn.Module):
    """Masks batches with any strategy, each at the centre rate of its budget.

    Parameters
    ----------
    tokenization : Tokenization
    rank_V : int32 tensor [4**k]
        Rank of each k-mer, 1 = first to mask.
    center_rates : CenterRates
    follow_loss : bool
        Keep the running losses that `loss_adaptive` reads (in `losses`).
    params : StrategyParams
        For a plan that is given as the name of a strategy.
    markov_bits_V : float64 tensor [4**k], optional
        Bits per base by a Markov model: keep the running bits per hidden base less these, which
        `reducible` reads (in `reducible`).
    """

    rank_V: Tensor
    markov_rank_V: Tensor
    reducible_rank_V: Tensor  # before training

    def __init__(
        self,
        tokenization: Tokenization,
        rank_V: Tensor,
        center_rates: CenterRates,
        follow_loss: bool = False,
        params: StrategyParams = DEFAULTS,
        markov_bits_V: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.tokenization, self.center_rates, self.params = tokenization, center_rates, params
        # Derived from the genome and the experiment, both of which a resumed run reads again.
        self.register_buffer("rank_V", rank_V, persistent=False)
        _, _, markov_rank_V, reducible_rank_V = center_rates.first_ranks
        self.register_buffer("markov_rank_V", markov_rank_V, persistent=False)
        self.register_buffer("reducible_rank_V", reducible_rank_V, persistent=False)
        self.losses = KmerLosses(rank_V) if follow_loss else None
        follows_bits = markov_bits_V is not None
        self.reducible = KmerLosses(reducible_rank_V, markov_bits_V) if follows_bits else None
        self.parts = self.graphs = Parts(tokenization.encode)
        for running in self.running_losses.values():
            running.register_load_state_dict_post_hook(lambda *_: self._invalidate_rates())

    def compile_parts(self, **options: Any) -> None:
        """Let torch.compile make one graph of each strategy, and one of everything else.

        They are apart so that nothing is recompiled when the strategy changes. Batches with a
        `packed_shape` go through them; others, whose shapes are never the same, do not.
        """
        graphs: list[Any] = [
            torch.compile(part, fullgraph=True, dynamic=False, **options) for part in self.parts
        ]
        self.graphs = Parts(*graphs)

    @property
    def running_losses(self) -> dict[str, KmerLosses]:
        """Those that are kept, by the name of their module."""
        named = {"losses": self.losses, "reducible": self.reducible}
        return {name: losses for name, losses in named.items() if losses is not None}

    @property
    def ranks(self) -> RankTables:
        """The current ranks, on the device of the masker."""
        losses, reducible = self.losses, self.reducible
        return RankTables(
            self.rank_V,
            self.rank_V if losses is None else losses.rank_V,
            self.markov_rank_V,
            self.reducible_rank_V if reducible is None else reducible.rank_V,
        )

    def _invalidate_rates(self) -> None:
        self.center_rates.invalidate(self.ranks)

    def observe(self, batch: WindowBatch, masked: MaskedBatch, loss_M: Tensor) -> None:
        """Add the losses (nats) of masked tokens to those that are kept."""
        if not self.running_losses:
            return
        tokenization = self.tokenization
        kmers_M = tokenization.target_kmers(masked.ids_T, masked.at_M, masked.targets_M)
        if self.losses is not None:
            self.losses.observe(kmers_M, loss_M)
        if self.reducible is not None:
            hidden_BL = tokenization.hidden_bases(
                masked.mask_BK, masked.maskable_BK, masked.ids_BK, batch.codes_BL.shape[1]
            )
            hidden_BK = tokenization.count_in_tokens(hidden_BL, masked.ids_BK)
            self.reducible.observe(kmers_M, loss_M, masked.at_masked(hidden_BK))

    def refresh_losses(self, add_up: Callable[[Tensor], Tensor]) -> None:
        """Let strategies see what the model has lost since the last call, on all processes."""
        for running in self.running_losses.values():
            running.collect(add_up)
            running.refresh()
        if self.running_losses:
            self._invalidate_rates()

    def prepare(self, names: Iterable[str], params: StrategyParams | None = None) -> None:
        """Solve the rates of strategies and compile their kernels now, not amid a run."""
        params = params or self.params
        for name in names:
            self.center_rates.rates(name, strategy(name), params, self.rank_V.device)

    @torch.no_grad()
    def forward(
        self,
        batch: WindowBatch,
        plan: MaskingPlan | str,
        probabilities: CorruptionProbabilities = BERT,
        packed_shape: PackedShape | None = None,
    ) -> MaskedBatch:
        """Mask a batch; with a `packed_shape` shapes are fixed and no host synchronizes."""
        batch = with_tokens(batch, self.tokenization)
        parts = self.parts if packed_shape is None else self.graphs
        ids_BK = parts.encode(batch.codes_BL) if batch.ids_BK is None else batch.ids_BK
        replacements = self.tokenization.replacements
        if isinstance(plan, str):
            plan = MaskingPlan((plan,), params=self.params)
        mask_BK, maskable_BK, counts_S2 = self._planned(ids_BK, batch.keys_B2, plan, parts)
        if packed_shape is None:
            lengths = batch.content_tokens(self.tokenization)
            packed = pack(ids_BK, mask_BK, lengths, batch.keys_B2, replacements, probabilities)
            layout = self._layout(lengths, packed.positions_T)
        else:
            if batch.bases_B is None:
                raise ValueError("a batch without `bases_B` cannot be packed into a fixed shape")
            lengths_B = batch.tokens_B
            if lengths_B is None:
                lengths_B = self.tokenization.content_tokens(batch.bases_B)
            packed, layout = parts.pack_into(
                packed_shape, ids_BK, mask_BK, lengths_B, batch.keys_B2, replacements, probabilities
            )
        return MaskedBatch(
            packed.ids_T,
            layout,
            packed.at_M,
            packed.true_M,
            mask_BK,
            maskable_BK,
            counts_S2,
            ids_BK,
        )

    def _planned(
        self, ids_BK: Tensor, keys_B2: Tensor, plan: MaskingPlan, parts: "Parts"
    ) -> tuple[Tensor, Tensor, Tensor]:
        """mask_BK, maskable_BK, counts_S2"""
        maskable_BK = self.tokenization.is_maskable(ids_BK)
        masks = [
            self.mask(ids_BK, maskable_BK, keys_B2, name, plan.params, parts)
            for name in plan.strategies
        ]
        maskable_B = maskable_BK.sum(1)
        if len(masks) == 1:
            counts = torch.stack([masks[0].sum(), maskable_B.sum()])[None]
            return masks[0], maskable_BK, counts
        second_B = (
            uniform_tensor(keys_B2, torch.zeros_like(keys_B2[:, 0]), MIXING)
            < plan.second_probability
        )
        mask_BK = torch.where(second_B[:, None], masks[1], masks[0])
        by_row_B2 = torch.stack([mask_BK.sum(1), maskable_B], dim=1)
        second_2 = (by_row_B2 * second_B[:, None]).sum(0)
        return mask_BK, maskable_BK, torch.stack([by_row_B2.sum(0) - second_2, second_2])

    def mask(
        self,
        ids_BK: Tensor,
        maskable_BK: Tensor,
        keys_B2: Tensor,
        name: str,
        params: StrategyParams | None = None,
        parts: "Parts | None" = None,
    ) -> Tensor:
        """bool [B, K]: the mask of a strategy; `parts` are those that compute it."""
        params, named = params or self.params, strategy(name)
        rate_by_tokens = self.center_rates.rates(name, named, params, ids_BK.device)
        table = named.table(params, ids_BK.device) if isinstance(named, Tuned) else None
        # Code of the user's need not be one graph, and reads the params themselves.
        is_custom = name not in STRATEGIES
        mask_by = mask_by_strategy if is_custom else (parts or self.parts).mask_by_strategy
        return mask_by(
            named.mask if isinstance(named, Tuned) else named,
            rate_by_tokens,
            tokenization=self.tokenization,
            ids_BK=ids_BK,
            maskable_BK=maskable_BK,
            keys_B2=keys_B2,
            ranks=self.ranks,
            params=params if is_custom else DEFAULTS,
            table=table,
        )

    def token_fraction(self, name: str, params: StrategyParams) -> float:
        """Expected fraction of masked tokens in windows of the full length; where the budget is in
        hidden bases, it is measured on windows of the training genome."""
        if params.budget == "tokens":
            return params.mask_ratio
        ids_BK = self.center_rates.corpus_BK[:MEASURED_WINDOWS]
        keys_B2 = sequence_keys(derive_key(0, "masked tokens"), np.arange(len(ids_BK)))
        mask_BK = self.mask(
            ids_BK,
            torch.ones_like(ids_BK, dtype=torch.bool),
            torch.from_numpy(keys_B2),
            name,
            params,
        )
        return mask_BK.double().mean().item()

    def _layout(self, lengths: tuple[int, ...], positions_T: Tensor) -> SequenceLayout:
        """Of sequences of so many tokens, [CLS] and [SEP] not counted."""
        lengths = tuple(length + 2 for length in lengths)
        if positions_T.device.type == "cpu":
            return SequenceLayout(positions_T, lengths)
        return SequenceLayout.of(lengths, positions_T.device)


def mask_by_strategy(
    strategy: Callable[..., Tensor],
    rate_by_tokens: Tensor,
    *,
    tokenization: Tokenization,
    ids_BK: Tensor,
    maskable_BK: Tensor,
    keys_B2: Tensor,
    ranks: RankTables,
    params: StrategyParams,
    table: Tensor | None,
) -> Tensor:
    """bool [B, K]: draw centres at the rate of each sequence's length, and mask around them; a
    strategy that is `Tuned` masks with the help of its table."""
    rate_B1 = rate_by_tokens[maskable_BK.sum(1, keepdim=True)]
    tokens = StrategyInput(
        tokenization=tokenization,
        ids_BK=ids_BK,
        maskable_BK=maskable_BK,
        centers_BK=draw_centers(maskable_BK, keys_B2, rate_B1, CENTERS),
        keys_B2=keys_B2,
        ranks=ranks,
        params=params,
    )
    return strategy(tokens) if table is None else strategy(tokens, table)


class Parts(NamedTuple):
    """The functions between which the host decides: each becomes graphs of its own."""

    encode: Callable[[Tensor], Tensor]
    mask_by_strategy: Callable[..., Tensor] = mask_by_strategy
    pack_into: Callable[..., tuple[Packed, SequenceLayout]] = pack_into
