"""Batches of fixed shape: the same loss and gradients, no waiting, nothing recompiled."""

from importlib import import_module

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from references import encoder as reference_encoder
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cmgems.config.encoders import Model
from cmgems.config.schema import Curriculum, Experiment, Masking, Ramp, Ramps
from cmgems.curriculum.schedule import max_token_fraction
from cmgems.data_modules.sampling import GenomeShare, WindowSampling
from cmgems.data_modules.windows import WindowStream
from cmgems.genome.spans import unambiguous_spans
from cmgems.masking.masker import Masker, MaskingPlan
from cmgems.masking.packing import IGNORED, NUM_LENGTH_BUCKETS, PackedShape
from cmgems.masking.rates import CenterRates
from cmgems.masking.strategies import STRATEGIES
from cmgems.masking.types import RankTables, StrategyParams
from cmgems.models import attention
from cmgems.models.encoder import EncoderConfig, MaskedLanguageModel
from cmgems.tokenization import OverlappingKmers
from cmgems.tokenization.base import PAD
from cmgems.training.metrics import masked_lm_loss
from cmgems.training.module import Pretraining, masked_lm_step
from cmgems.utils.kernels import force_torch_path

MAX_LENGTH = 128 - 6 + 3
SHAPE = EncoderConfig(3, 32, 4, 48, vocab_size=4101, max_position_embeddings=MAX_LENGTH)


@pytest.fixture(scope="module")
def masker(human_ids, human_rank):
    return Masker(
        OverlappingKmers(6),
        human_rank,
        CenterRates(human_ids[:, :123], human_rank, OverlappingKmers(6)),
    )


@pytest.fixture(scope="module")
def windows(genome):
    return WindowStream(
        genome.codes,
        [GenomeShare(unambiguous_spans(genome.codes))],
        WindowSampling(128, 6, 0.5),
        seed=3,
    )


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = MaskedLanguageModel(SHAPE).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def shape_for(batch, mask_ratio=0.15, width=11.7):
    lengths = tuple(bases - 3 for bases in batch.bases)
    return PackedShape.of(lengths, MAX_LENGTH, mask_ratio, width)


def in_fixed_shape(masker, batch, name="genemask"):
    with force_torch_path():
        return masker(batch, name, packed_shape=shape_for(batch))


@pytest.mark.parametrize("name", STRATEGIES)
def test_holds_the_batch_of_the_kernels(name, masker, windows):
    """Behind the same tokens stands [PAD]; next to the same targets are positions without one."""
    batch = windows.batch(0, 12)
    masked, plain = in_fixed_shape(masker, batch, name), masker(batch, name)
    packed_shape, tokens = shape_for(batch), len(plain.ids_T)
    assert (len(masked.ids_T), len(masked.at_M)) == (packed_shape.tokens, packed_shape.masked)
    assert tokens < packed_shape.tokens
    assert torch.equal(masked.ids_T[:tokens], plain.ids_T)
    assert (masked.ids_T[tokens:] == PAD).all()
    assert torch.equal(masked.layout.position_ids[:tokens], plain.layout.position_ids)
    counts = masked.targets_M != IGNORED
    assert torch.equal(masked.at_M[counts], plain.at_M)
    assert torch.equal(masked.targets_M[counts], plain.targets_M)
    assert (masked.at_M.diff() > 0).all()
    ends = np.cumsum(plain.layout.seqlens)
    assert masked.layout.cu_seqlens[: len(ends) + 1].tolist() == [0, *ends]
    assert masked.layout.cu_seqlens[-1] == packed_shape.tokens
    assert masked.layout.cu_seqlens.diff().max() <= MAX_LENGTH
    assert torch.equal(masked.counts_S2, plain.counts_S2)


def test_loss_and_gradients_equal_those_of_kernels_and_reference(masker, windows, model):
    batch = windows.batch(0, 12)
    ids, real, predicted, targets = _padded(masker(batch, "genemask"))
    losses = [F.cross_entropy(reference_encoder.logits(model, ids, real)[predicted], targets)]
    for masked in (masker(batch, "genemask"), in_fixed_shape(masker, batch)):
        logits = model(masked.ids_T, masked.layout, masked.at_M)
        # `masked_lm_loss` is in float32
        losses.append(F.cross_entropy(logits, masked.targets_M, ignore_index=IGNORED))
        output = masked_lm_loss(logits, masked.targets_M)
        assert int(output.masked) == len(targets)
        mean = output.loss_M.detach().sum() / output.masked
        assert mean.item() == pytest.approx(losses[0].item(), rel=1e-5)
    wanted, *others = (torch.autograd.grad(loss, list(model.parameters())) for loss in losses)
    for loss, gradients in zip(losses[1:], others, strict=True):
        assert loss.item() == pytest.approx(losses[0].item(), abs=1e-12)
        for (name, _), one, other in zip(model.named_parameters(), gradients, wanted, strict=True):
            assert torch.allclose(one, other, rtol=0, atol=1e-10), name


def _padded(masked):
    """ids [B, L], real [B, L], predicted [B, L], targets, for the reference."""
    lengths = torch.tensor(masked.layout.seqlens)
    real = torch.arange(int(lengths.max())) < lengths[:, None]
    ids = torch.zeros(real.shape, dtype=torch.int64)
    ids[real] = masked.ids_T.long()
    predicted = torch.zeros(real.shape, dtype=torch.bool)
    at = torch.zeros(len(masked.ids_T), dtype=torch.bool)
    at[masked.at_M] = True
    predicted[real] = at
    return ids, real, predicted, masked.targets_M


def test_all_states_equal_those_by_runs(masker, windows, model):
    batch = windows.batch(12, 12)
    masked, plain = in_fixed_shape(masker, batch), masker(batch, "genemask")
    states = model.encoder(masked.ids_T, masked.layout)
    wanted = model.encoder(plain.ids_T, plain.layout)
    assert torch.allclose(states[: len(wanted)], wanted, rtol=0, atol=1e-12)
    assert states.isfinite().all()


def test_dropout_keeps_gradients_finite(masker, windows):
    model = MaskedLanguageModel(EncoderConfig(2, 32, 4, 48, 4101, MAX_LENGTH, dropout=0.3))
    masked = in_fixed_shape(masker, windows.batch(0, 5))
    masked_lm_loss(
        model(masked.ids_T, masked.layout, masked.at_M), masked.targets_M
    ).loss_M.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("windows_per_batch", [2, 10, 64])
def test_the_shape_holds_all_that_is_masked(name, windows_per_batch, masker, windows):
    for first in range(0, 1280, windows_per_batch):
        batch = windows.batch(first, windows_per_batch)
        masked = int(masker.mask(*_ids_maskable_keys(masker, batch), name).sum())
        assert masked <= shape_for(batch).masked


def _ids_maskable_keys(masker, batch):
    ids_BK = masker.parts.encode(batch.codes_BL)
    return ids_BK, ids_BK > 4, batch.keys_B2


def test_what_the_shape_does_not_hold_is_not_predicted(masker, windows):
    batch = windows.batch(0, 12)
    plain, packed_shape = masker(batch, "random"), shape_for(batch)._replace(masked=64)
    with force_torch_path():
        masked = masker(batch, "random", packed_shape=packed_shape)
    assert len(plain.at_M) > 64
    assert torch.equal(masked.at_M, plain.at_M[:64])
    assert torch.equal(masked.targets_M, plain.targets_M[:64])
    assert torch.equal(masked.ids_T[: len(plain.ids_T)], plain.ids_T)


def test_few_numbers_of_tokens(windows):
    """As many shapes as buckets at most, and never more tokens than full windows have."""
    packed_shapes = [shape_for(windows.batch(first, 10)) for first in range(0, 2000, 10)]
    assert 2 <= len({packed_shape[:2] for packed_shape in packed_shapes}) <= NUM_LENGTH_BUCKETS
    assert max(packed_shape.tokens for packed_shape in packed_shapes) <= 10 * MAX_LENGTH


def test_largest_fraction_of_a_run(masker):
    def largest(curriculum, masking):
        return max_token_fraction(curriculum, masking, masker.token_fraction)

    plain, ramps = Curriculum(), Ramps(mask_ratio=Ramp("linear", end=0.4))
    assert largest(plain, Masking()) == 0.15
    assert largest(Curriculum(ramps=ramps), Masking()) == 0.4
    assert largest(plain, Masking(center_rate="paper")) == 0.2
    # To hide a base, `random` masks six k-mers; the wide windows need fewer for each base.
    hidden = Masking(budget="hidden_bases")
    both = Curriculum(strategies=("random_wide", "random"))
    assert 0.2 < largest(Curriculum(strategies=("random_wide",)), hidden) < 0.3
    assert 0.36 < largest(both, hidden) < 0.42


@pytest.mark.parametrize("name", ["random", "random_wide", "global_pmi"])
def test_masks_that_hide_as_many_bases_fit_into_the_shape(name, masker, windows):
    experiment = Experiment(
        model=Model(hidden_size=32, num_heads=2, intermediate_size=64),
        curriculum=Curriculum(strategies=(name,)),
        masking=Masking(budget="hidden_bases"),
    )
    module = Pretraining(
        experiment, Masker(OverlappingKmers(6), masker.rank_V, masker.center_rates)
    )
    policy = module.packed_shapes._replace(max_length=MAX_LENGTH)
    plan = MaskingPlan((name,), params=StrategyParams(budget="hidden_bases"))
    masked = 0
    for first in range(0, 1200, 12):
        batch = windows.batch(first, 12)
        packed_shape = policy.packed_shape(batch.content_tokens(OverlappingKmers(6)))
        with force_torch_path():
            packed = masker(batch, plan, packed_shape=packed_shape)
        masked += int(packed.mask_BK.sum())
        assert int((packed.targets_M != IGNORED).sum()) == int(packed.mask_BK.sum())
        assert packed_shape.masked < packed_shape.tokens
    assert masked > 5000


# Tables that strategies look up, made on the host once: module, function, size.
TABLES = [
    ("pmi_ranked", "gumbel", 2**14),
    ("pmi_ranked", "_permutation", 4096),
]


class StaysThere(TorchDispatchMode):
    """Refuses what moves a tensor between devices."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                assert tensor.device.type == "meta", operation
        return result


@pytest.mark.parametrize("name", STRATEGIES)
def test_nothing_waits_for_the_device(name, masker, windows, human_rank, monkeypatch):
    """With tensors that have shapes and no values: whatever looks at one raises an error. Masks,
    packing, model and loss, forward and backward, by the grid and by the kernel for GPUs."""
    batch = windows.batch(0, 4)
    monkeypatch.setattr(attention, "_has_kernel", lambda q: q.dtype == torch.bfloat16)
    with torch.device("meta"), StaysThere():
        there = batch._replace(
            codes_BL=torch.empty(batch.codes_BL.shape, dtype=torch.uint8),
            keys_B2=torch.empty(batch.keys_B2.shape, dtype=torch.int32),
            bases_B=torch.empty(batch.bases_B.shape, dtype=torch.int64),
        )
        for module, table, size in TABLES:
            made = torch.empty(size, dtype=torch.int32)
            module = import_module(f"cmgems.masking.strategies.{module}")
            monkeypatch.setattr(module, table, lambda *_, made=made: made)
        lengths_Q = torch.empty(2**12, dtype=torch.int32)
        monkeypatch.setattr(STRATEGIES["span"], "_table", lambda *_: lengths_Q)
        rate_by_tokens = torch.empty(124)
        monkeypatch.setattr(masker.center_rates, "rates", lambda *_: rate_by_tokens)
        rank_V = torch.empty(4096, dtype=torch.int32)
        ranks = RankTables.before_training(rank_V)
        monkeypatch.setattr(masker.center_rates, "first_ranks", ranks)
        fake = Masker(OverlappingKmers(6), rank_V, masker.center_rates)
        masked = fake(there, name, packed_shape=shape_for(batch))
        model = MaskedLanguageModel(SHAPE)
        for compute in (None, torch.bfloat16):
            model.encoder.compute_dtype = compute
            if compute:  # the kernel, and nothing else
                monkeypatch.setattr(attention, "_attention_padded", None)
            output = masked_lm_step(
                model, masked.ids_T, masked.layout, masked.at_M, masked.targets_M
            )
            assert output.loss_M.shape == (shape_for(batch).masked,)
            (output.loss_M.sum() / output.masked.clamp(min=1)).backward()
            assert all(p.grad.shape == p.shape for p in model.parameters())


@pytest.mark.parametrize(
    "look", [lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: x.cpu(), lambda x: x.tolist()]
)
def test_what_waits_for_the_device_is_found(look):
    """The test above can fail."""
    with torch.device("meta"), StaysThere():
        x = torch.empty(4)
        with pytest.raises((RuntimeError, AssertionError)):
            look(x)
