"""From base codes to what the encoder reads and has to predict, on the device of the codes."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
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
from cmgems.masking.rates import CenterRates, relevant_params
from cmgems.masking.registry import strategy
from cmgems.masking.strategies import STRATEGIES, Strategy
from cmgems.masking.types import CENTERS, MIXING, StrategyInput, StrategyParams
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
    """

    rank_V: Tensor

    def __init__(
        self,
        tokenization: Tokenization,
        rank_V: Tensor,
        center_rates: CenterRates,
        follow_loss: bool = False,
        params: StrategyParams = DEFAULTS,
    ) -> None:
        super().__init__()
        self.tokenization, self.center_rates, self.params = tokenization, center_rates, params
        # Derived from the genome and the experiment, both of which a resumed run reads again.
        self.register_buffer("rank_V", rank_V, persistent=False)
        self.losses = KmerLosses(rank_V) if follow_loss else None
        self.parts = Parts(tokenization.encode)
        if self.losses is not None:
            self.losses.register_load_state_dict_post_hook(
                lambda losses, _: self._invalidate_rates(losses)
            )

    def compile_parts(self, **options: Any) -> None:
        """Let torch.compile make one graph of each strategy, and one of everything else.

        They are apart so that nothing is recompiled when the strategy changes. Batches need a
        `packed_shape` from then on.
        """
        graphs: list[Any] = [
            torch.compile(part, fullgraph=True, dynamic=False, **options)
            for part in Parts(self.tokenization.encode)
        ]
        self.parts = Parts(*graphs)

    def _invalidate_rates(self, losses: KmerLosses) -> None:
        self.center_rates.invalidate(losses.rank_V)

    def refresh_losses(self, add_up: Callable[[Tensor], Tensor]) -> None:
        """Let `loss_adaptive` see what the model has lost since the last call, on all processes."""
        if self.losses is not None:
            self.losses.collect(add_up)
            self.losses.refresh()
            self._invalidate_rates(self.losses)

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
        ids_BK = self.parts.encode(batch.codes_BL) if batch.ids_BK is None else batch.ids_BK
        replacements = self.tokenization.replacements
        if isinstance(plan, str):
            plan = MaskingPlan((plan,), params=self.params)
        mask_BK, maskable_BK, counts_S2 = self._planned(ids_BK, batch.keys_B2, plan)
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
            packed, layout = self.parts.pack_into(
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
        self, ids_BK: Tensor, keys_B2: Tensor, plan: MaskingPlan
    ) -> tuple[Tensor, Tensor, Tensor]:
        """mask_BK, maskable_BK, counts_S2"""
        maskable_BK = self.tokenization.is_maskable(ids_BK)
        masks = [
            self.mask(ids_BK, maskable_BK, keys_B2, name, plan.params) for name in plan.strategies
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
    ) -> Tensor:
        """bool [B, K]: the mask of a strategy."""
        params, named = params or self.params, strategy(name)
        rate_by_tokens = self.center_rates.rates(name, named, params, ids_BK.device)
        # Code of the user's need not be one graph.
        mask_by = self.parts.mask_by_strategy if name in STRATEGIES else mask_by_strategy
        return mask_by(
            named,
            rate_by_tokens,
            tokenization=self.tokenization,
            ids_BK=ids_BK,
            maskable_BK=maskable_BK,
            keys_B2=keys_B2,
            rank_V=self.rank_V,
            loss_rank_V=self.rank_V if self.losses is None else self.losses.rank_V,
            params=relevant_params(name, params),
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
    strategy: Strategy,
    rate_by_tokens: Tensor,
    *,
    tokenization: Tokenization,
    ids_BK: Tensor,
    maskable_BK: Tensor,
    keys_B2: Tensor,
    rank_V: Tensor,
    loss_rank_V: Tensor,
    params: StrategyParams,
) -> Tensor:
    """bool [B, K]: draw centres at the rate of each sequence's length, and mask around them."""
    rate_B1 = rate_by_tokens[maskable_BK.sum(1, keepdim=True)]
    tokens = StrategyInput(
        tokenization=tokenization,
        ids_BK=ids_BK,
        maskable_BK=maskable_BK,
        centers_BK=draw_centers(maskable_BK, keys_B2, rate_B1, CENTERS),
        keys_B2=keys_B2,
        rank_V=rank_V,
        loss_rank_V=loss_rank_V,
        params=params,
    )
    return strategy(tokens)


class Parts(NamedTuple):
    """The functions between which the host decides: each becomes graphs of its own."""

    encode: Callable[[Tensor], Tensor]
    mask_by_strategy: Callable[..., Tensor] = mask_by_strategy
    pack_into: Callable[..., tuple[Packed, SequenceLayout]] = pack_into
