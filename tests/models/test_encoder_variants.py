"""Every kind of block against the plain reference, packed, padded and side by side."""

from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F
from helpers.encoders import BERT, VARIANTS
from references import encoder as reference_encoder

from cmgems.config.encoders import BERT_BLOCKS, Model
from cmgems.models import attention as attention_module
from cmgems.models import scores as scores_module
from cmgems.models.attention import attention
from cmgems.models.blocks import MLPS
from cmgems.models.dropout import Dropout, SeededDropout
from cmgems.models.encoder import LAYERS, EncoderConfig, MaskedLanguageModel
from cmgems.models.layouts import PaddedLayout, SequenceLayout
from cmgems.models.positions import POSITIONS, alibi_slopes
from cmgems.models.scores import Scores
from cmgems.models.stacked import stack, unstack
from cmgems.tokenization.base import MASK

LENGTHS = (17, 17, 9, 3, 30, 30, 30)


def built(config, seed=0):
    torch.manual_seed(seed)
    model = MaskedLanguageModel(config).double()
    for parameter in model.parameters():  # nothing at 0 or 1, where a slip would not show
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(scope="module")
def batch():
    """Padded ids, which places are real, and which are predicted (none of the 4th sequence)."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, BERT.vocab_size, (len(LENGTHS), max(LENGTHS)), generator=generator)
    ids[2, 3:7] = ids[6, ::5] = MASK  # what token dropout goes by
    real = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    predicted = (torch.rand(ids.shape, generator=generator) < 0.2) & real
    predicted[3] = False
    return ids, real, predicted


def packed_layouts():
    """As on a CPU, and as on other devices."""
    on_cpu = SequenceLayout.of(LENGTHS)
    ends = torch.tensor((0, *LENGTHS)).cumsum(0)
    return on_cpu, SequenceLayout(on_cpu.position_ids, (), ends, max(LENGTHS))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Local attention cuts the short rows of these tests into blocks, as it does long ones."""
    monkeypatch.setattr(scores_module, "SMALLEST_BLOCK", 2)


@pytest.mark.parametrize("variant", VARIANTS)
def test_packed_loss_and_gradients_equal_the_reference(variant, batch):
    ids, real, predicted = batch
    model = built(VARIANTS[variant])
    targets = ids[predicted].flip(0)
    plain = F.cross_entropy(reference_encoder.logits(model, ids, real)[predicted], targets)
    wanted = torch.autograd.grad(plain, list(model.parameters()))
    for layout in packed_layouts():
        logits = model(ids[real], layout, predicted[real].nonzero()[:, 0])
        loss = F.cross_entropy(logits, targets)
        found = torch.autograd.grad(loss, list(model.parameters()))
        assert loss.item() == pytest.approx(plain.item(), abs=1e-11)
        for (name, _), one, other in zip(model.named_parameters(), found, wanted, strict=True):
            assert torch.allclose(one, other, rtol=0, atol=1e-9), name


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_packed_padded_and_side_by_side_are_one(variant, batch):
    ids, real, _ = batch
    one, two = built(VARIANTS[variant]).encoder, built(VARIANTS[variant], 5).encoder
    wanted = reference_encoder.states(one, ids, real)
    for layout in packed_layouts():
        assert torch.allclose(one(ids[real], layout), wanted[real], atol=1e-11)
    padded = one(ids.flatten(), PaddedLayout.of(real)).view_as(wanted)
    assert torch.allclose(padded[real], wanted[real], atol=1e-11)
    both_ids, both_real = torch.stack([ids, ids.flip(0)]), torch.stack([real, real.flip(0)])
    layout = PaddedLayout.of(both_real)
    together = stack([one, two])
    found = together(both_ids.flatten(1), layout).view(2, *wanted.shape)
    assert torch.allclose(found[0][real], wanted[real], atol=1e-11)
    other = reference_encoder.states(two, ids.flip(0), both_real[1])
    assert torch.allclose(found[1][both_real[1]], other[both_real[1]], atol=1e-11)
    first = together(both_ids.flatten(1), layout, layout.first_tokens(2)).unflatten(1, (-1, 2))
    assert torch.allclose(first, found[:, :, :2], atol=1e-11)
    alone = unstack(together, 1)
    assert all(torch.equal(x, two.state_dict()[name]) for name, x in alone.state_dict().items())


@pytest.mark.parametrize("variant", ["post-alibi-gelu-none-5", "esm-rotary-geglu-biases-0"])
def test_gradients_side_by_side_are_those_of_each(variant, batch):
    ids, real, _ = batch
    encoders = [built(VARIANTS[variant], seed).encoder for seed in (0, 5)]
    together, layout = stack(encoders), PaddedLayout.of(real)
    found = together(ids.flatten().expand(2, -1), layout)[:, real.flatten()]
    found.square().sum().backward()
    for number, encoder in enumerate(encoders):
        encoder(ids[real], SequenceLayout.of(LENGTHS)).square().sum().backward()
        for name, parameter in encoder.named_parameters():
            gradient = together.get_parameter(name).grad[number]
            assert torch.allclose(gradient, parameter.grad, rtol=1e-9, atol=1e-9), name


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_sequence_does_not_see_the_batch(variant, batch):
    """Alone, among others, or with padding behind it: the same hidden states."""
    ids, real, _ = batch
    encoder = built(VARIANTS[variant]).encoder
    together = encoder(ids[real], SequenceLayout.of(LENGTHS)).split(LENGTHS)
    for row in (0, 2, 6):
        own = ids[row, : LENGTHS[row]]
        alone = encoder(own, SequenceLayout.of((LENGTHS[row],)))
        assert torch.allclose(alone, together[row], atol=1e-11)
        filled = F.pad(own, (0, 7), value=3)
        layout = PaddedLayout.of(torch.arange(len(filled))[None] < LENGTHS[row])
        assert torch.allclose(encoder(filled, layout)[: len(own)], alone, atol=1e-11)


@torch.no_grad()
def test_rotary_reads_distances_alone():
    """The same sequence with all positions moved: the same hidden states."""
    ids = torch.randint(0, 69, (20,), generator=torch.Generator().manual_seed(0))
    layout = SequenceLayout.of((20,))
    moved = layout._replace(position_ids=layout.position_ids + 11)
    for positions, same in (("rotary", True), ("learned", False)):
        encoder = built(replace(BERT, position_embedding=positions)).encoder
        assert torch.allclose(encoder(ids, moved), encoder(ids, layout), atol=1e-10) == same


@torch.no_grad()
@pytest.mark.parametrize("kind", ["learned", "rotary", "alibi"])
def test_order_is_told(kind):
    """Two neighbors that change places change what a third one sees. ALiBi sees no direction."""
    ids, layout = torch.arange(20), SequenceLayout.of((20,))
    encoder = built(replace(BERT, position_embedding=kind)).encoder
    swapped = ids.clone()
    swapped[[8, 9]] = ids[[9, 8]]
    found = encoder(ids, layout)
    assert not torch.allclose(encoder(swapped, layout)[10], found[10], atol=1e-7)
    reversed_too = torch.allclose(encoder(ids.flip(0), layout).flip(0), found, atol=1e-10)
    assert reversed_too == (kind == "alibi")


@torch.no_grad()
def test_alibi_looks_less_the_farther_away():
    """With equal scores otherwise, weights fall with the distance, on both sides alike."""
    config = replace(BERT, position_embedding="alibi", num_layers=1)
    encoder = built(config).encoder
    positions = encoder.positions.for_attention(torch.arange(15), torch.float64)
    query, value = torch.zeros(15, 32).double(), torch.eye(15, 8).double().repeat(1, 4)
    value[8:] = 0
    layout = SequenceLayout.of((15,))
    scores = Scores(positions.slopes_H)
    mixed = attention(query, query, value, layout, None, 4, Dropout(0.0), scores)
    weights = mixed.view(15, 4, 8)  # of the first 8 tokens, by query and head
    for head in range(4):
        from_first = weights[0, head]
        assert (from_first.diff() < 0).all()
        ratio = from_first[1:] / from_first[:-1]
        assert torch.allclose(ratio.log(), -alibi_slopes(4)[head].double())
        middle = weights[4, head]
        assert torch.allclose(middle[1:4], middle[5:8].flip(0))


def test_slopes_are_the_published_ones():
    assert alibi_slopes(8).tolist() == [2.0**-h for h in range(1, 9)]
    # of 12 heads, as the authors' code: those of 8, then every second one of 16
    assert torch.equal(alibi_slopes(12), torch.cat([alibi_slopes(8), alibi_slopes(16)[0:8:2]]))
    assert torch.equal(alibi_slopes(6), torch.cat([alibi_slopes(4), alibi_slopes(8)[0:4:2]]))


@pytest.mark.parametrize("variant", ["pre-alibi-geglu-none-5", "esm-rotary-gelu-biases-0"])
def test_dropout_side_by_side_is_of_each_model(variant, batch):
    ids, _, _ = batch
    encoders = [built(VARIANTS[variant], seed).encoder for seed in (0, 5)]
    layout = PaddedLayout.of(torch.ones(ids.shape, dtype=torch.bool), padded=False)
    both = stack(encoders)(ids.flatten().expand(2, -1), layout, dropout=SeededDropout(0.2, [3, 4]))
    for number, encoder in enumerate(encoders):
        alone = stack([encoder])
        dropout = SeededDropout(0.2, [3 + number])
        assert torch.allclose(alone(ids.flatten()[None], layout, dropout=dropout)[0], both[number])
        again = alone(ids.flatten()[None], layout, dropout=SeededDropout(0.2, [9]))
        assert not torch.allclose(again[0], both[number])


@pytest.mark.parametrize(
    "variant", ["pre-alibi-geglu-none-5", "esm-rotary-gelu-biases-0", "pre-rotary-local-second"]
)
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_nothing_waits_for_the_device(variant, dtype, monkeypatch):
    """With tensors that have shapes and no values: whatever looks at one raises an error."""
    monkeypatch.setattr(attention_module, "_has_kernel", lambda q: q.dtype == torch.bfloat16)
    with torch.device("meta"):
        model = MaskedLanguageModel(VARIANTS[variant])
        model.encoder.compute_dtype = dtype
        whole = torch.empty(40, dtype=torch.int64)
        layout = SequenceLayout(whole, (), torch.empty(4, dtype=torch.int64), 20)
        logits = model(whole, layout, torch.empty(9, dtype=torch.int64))
        logits.float().sum().backward()
    assert all(p.grad.shape == p.shape for p in model.parameters())


@torch.no_grad()
def test_the_kernel_is_told_how_far_a_local_layer_sees(batch, monkeypatch):
    """With a plain function in the place of the kernel, which needs a GPU."""
    windows = []

    def plain(q, k, v, queries, keys, longest_q, longest_k, window_size=(-1, -1)):
        windows.append(window_size)
        mixed = []
        for q_own, k_own, v_own in zip(
            *(x.split(keys.diff().tolist()) for x in (q, k, v)), strict=True
        ):
            place = torch.arange(len(q_own))
            ahead = place - place[:, None]
            left, right = window_size
            seen = ((ahead >= -left) | (left < 0)) & ((ahead <= right) | (right < 0))
            scores = torch.einsum("qhe,khe->hqk", q_own, k_own) / q.shape[-1] ** 0.5
            chance = scores.masked_fill(~seen, -torch.inf).softmax(-1)
            mixed.append(torch.einsum("hqk,khe->qhe", chance, v_own))
        return torch.cat(mixed)

    ids, real, _ = batch
    encoder = built(VARIANTS["pre-rotary-local-second"]).encoder
    on_cpu, elsewhere = packed_layouts()
    wanted = encoder(ids[real], on_cpu)
    monkeypatch.setattr(attention_module, "_has_kernel", lambda q: True)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", plain)
    assert torch.allclose(encoder(ids[real], elsewhere), wanted, atol=1e-11)
    assert windows == [(-1, -1), (4, 4), (-1, -1)]
    # A few queries in a local layer are not the kernel's.
    encoder = built(VARIANTS["pre-rotary-local-all"]).encoder
    at = torch.tensor([3, 20, 21, 50])
    windows.clear()
    assert torch.allclose(encoder(ids[real], elsewhere, at), encoder(ids[real], on_cpu, at))
    assert windows == [(3, 3), (3, 3)]


@pytest.mark.parametrize("variant", ["pre-rotary-geglu-none-5", "post-alibi-gelu-biases-0"])
def test_bf16_is_near_float32(variant, batch):
    ids, real, predicted = batch
    torch.manual_seed(0)
    model = MaskedLanguageModel(VARIANTS[variant])
    at = predicted[real].nonzero()[:, 0]
    for layout in packed_layouts():
        model.encoder.compute_dtype = None
        exact = model(ids[real], layout, at)
        model.encoder.compute_dtype = torch.bfloat16
        rounded = model(ids[real], layout, at)
        assert rounded.dtype == torch.bfloat16
        assert torch.allclose(rounded.float(), exact, atol=0.02)


def test_every_choice_of_the_config_has_its_block():
    choices = {p.name: set(p.metadata.get("choices", ())) for p in fields(Model)}
    assert choices["norm"] == set(LAYERS)
    assert choices["position_embedding"] == set(POSITIONS)
    assert choices["mlp"] == set(MLPS)
    assert set(BERT_BLOCKS) < {part.name for part in fields(EncoderConfig)}
    assert all(getattr(BERT, name) == value for name, value in BERT_BLOCKS.items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_begin_as_berts(variant):
    torch.manual_seed(0)
    model = MaskedLanguageModel(replace(VARIANTS[variant], hidden_size=64, vocab_size=500))
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            assert not weight.any(), name
        elif "norm" in name:
            assert (weight == 1).all(), name
        else:
            assert weight.detach().std() == pytest.approx(0.02, rel=0.1), name
    biases = {name for name, _ in model.named_parameters() if name.endswith("bias")}
    assert biases == {"bias"} or VARIANTS[variant].biases


@pytest.mark.parametrize(
    "variant", ["pre-rotary-geglu-none-5", "esm-alibi-gelu-biases-0", "pre-rotary-local-second"]
)
def test_a_compiled_encoder_is_the_encoder(variant, batch):
    """Loss and gradients of one graph (without a code generator)."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    ids, real, predicted = batch
    model, layout = MaskedLanguageModel(VARIANTS[variant]), packed_layouts()[1]
    found = []
    for run in (model, torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")):
        logits = run(ids[real], layout, predicted[real].nonzero()[:, 0])
        gradients = torch.autograd.grad(logits.logsumexp(1).sum(), list(model.parameters()))
        found.append((logits, *gradients))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)
