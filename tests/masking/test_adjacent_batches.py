"""Batches of tokens that differ in length: what the loader sends along, packed on both paths."""

import pytest
import torch
from helpers.paths import EXPERIMENTS

from cmgems.data_modules.pretraining import GenomeDataModule
from cmgems.masking.packing import ALL_MASKED, IGNORED
from cmgems.masking.strategies import STRATEGIES
from cmgems.runs.experiment import load
from cmgems.tokenization.base import CLS, MASK, PAD, SEP
from cmgems.training.masks import build_masker, load_difficulty
from cmgems.training.module import packed_shape_policy
from cmgems.utils.kernels import force_torch_path


@pytest.fixture(scope="module", params=["nonoverlapping", "bpe"])
def made(request, genome, tiny):
    """An experiment, its masker, and a training batch as it comes to the device."""
    settings = [*tiny, "train.max_steps=3", "data.window_length=400", "data.min_window_length=30"]
    experiment = load(EXPERIMENTS / f"pretrain/{request.param}.yaml", settings)
    data = GenomeDataModule(experiment, genome)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmgems.training.masks.CORPUS_WINDOWS", 32)  # rates of all strategies: slow
        masker = build_masker(experiment, data, load_difficulty(experiment, genome))
    plain = data.windows.batch(0, 12)
    return experiment, masker, data.on_before_batch_transfer(plain, 0)


def test_packs_the_tokens_of_the_bases(made):
    """Without corruption the packed ids spell the windows."""
    _, masker, batch = made
    masked = masker(batch, "random_wide", ALL_MASKED)
    original = masked.ids_T.clone().long()
    assert (original[masked.at_M] == MASK).all()
    original[masked.at_M] = masked.targets_M
    vocabulary, first = masker.tokenization.vocabulary, 0
    for codes, bases, length in zip(
        batch.codes_BL, batch.bases, masked.layout.seqlens, strict=True
    ):
        sequence = original[first : first + length].tolist()
        assert (sequence[0], sequence[-1]) == (CLS, SEP)
        spelled = "".join(vocabulary[id_] for id_ in sequence[1:-1])
        assert spelled == "".join("ATCG"[code] for code in codes[:bases])
        first += length
    assert first == len(original)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_fixed_shape_holds_the_batch_of_the_kernels(name, made):
    experiment, masker, batch = made
    policy = packed_shape_policy(experiment, masker)
    shape = policy.packed_shape(batch.content_tokens(masker.tokenization))
    plain = masker(batch, name)
    with force_torch_path():
        masked = masker(batch, name, packed_shape=shape)
    tokens = len(plain.ids_T)
    assert len(masked.ids_T) == shape.tokens >= tokens
    assert torch.equal(masked.ids_T[:tokens], plain.ids_T)
    assert (masked.ids_T[tokens:] == PAD).all()
    counts = masked.targets_M != IGNORED
    assert torch.equal(masked.at_M[counts], plain.at_M)
    assert torch.equal(masked.targets_M[counts], plain.targets_M)
    assert torch.equal(masked.counts_S2, plain.counts_S2)


def test_replacements_are_tokens_that_can_be_masked(made, genome):
    """About a tenth of the masked tokens, of all kinds, none of them special."""
    experiment, masker, _ = made
    data, seen = GenomeDataModule(experiment, genome), []
    for number in range(12):
        batch = data.on_before_batch_transfer(data.windows.batch(40 * number, 40), 0)
        masked = masker(batch, "random_wide")
        shown = masked.ids_T[masked.at_M].long()
        seen.append(shown[(shown != MASK) & (shown != masked.targets_M)])
        assert masker.tokenization.is_maskable(masked.targets_M).all()
    replaced = torch.cat(seen)
    assert masker.tokenization.is_maskable(replaced).all()
    spread = (replaced.double() - 5) / masker.tokenization.replacements  # uniform in [0, 1)
    assert len(replaced) > 80
    assert float(spread.mean()) == pytest.approx(0.5, abs=5 * (1 / 12 / len(replaced)) ** 0.5)
    assert float(spread.max()) > 0.9


@pytest.mark.parametrize("name", STRATEGIES)
def test_traces_as_one_graph(name, made):
    """What breaks a graph waits for the device on a GPU."""
    _, masker, batch = made
    torch._dynamo.reset()
    traced = torch.compile(masker.mask, backend=lambda graph, _: graph, fullgraph=True)
    maskable_BK = masker.tokenization.is_maskable(batch.ids_BK)
    found = traced(batch.ids_BK, maskable_BK, batch.keys_B2, name)
    assert torch.equal(found, masker.mask(batch.ids_BK, maskable_BK, batch.keys_B2, name))
