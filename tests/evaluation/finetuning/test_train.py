"""Training side by side equals training one at a time, and both equal the packed encoder."""

import numpy as np
import pytest
import torch
from helpers.encoders import tiny_config
from torch import nn

from cmgems.data_modules.classification import (
    ClassificationDataModule,
    EvaluationData,
    Examples,
    TrainData,
    evaluation_loader,
)
from cmgems.errors import UserError
from cmgems.evaluation.finetuning.lora import ADAPTED, ALPHA, adapt, merge
from cmgems.evaluation.finetuning.recipes import Recipe, few_shot_recipe, full_recipe
from cmgems.evaluation.finetuning.train import (
    Classifiers,
    FineTuneConfig,
    LabelScale,
    clip_gradients_per_model,
    loss_per_model,
    predict_logits,
    prepare_examples,
    train,
)
from cmgems.genome.alphabet import encode_bases
from cmgems.inference.encode import compute_hidden_states
from cmgems.models.dropout import SeededDropout
from cmgems.models.encoder import Encoder
from cmgems.models.layouts import SequenceLayout
from cmgems.models.stacked import stack, unstack
from cmgems.tasks.dataset import from_sequences, pack_codes
from cmgems.tasks.lookup import find_task
from cmgems.tasks.tokens import Tokens, tokenize
from cmgems.tokenization import OverlappingKmers

SHAPE = tiny_config(num_layers=2, hidden_size=16, num_heads=2)
RECIPE = Recipe(learning_rate=2e-3, epochs=2, batch_size=4, dropout=0.1)
SEEDS = [5, 6, 7]


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    encoder = Encoder(SHAPE).double().eval()
    for parameter in encoder.parameters():  # nothing at 0 or 1, where a slip would not show
        nn.init.normal_(parameter, std=0.3)
    return encoder


@pytest.fixture
def data():
    """24 sequences of k = 3 with two lengths; class 1 has more A."""
    generator = np.random.default_rng(0)
    shares = {0: (0.25, 0.25, 0.25, 0.25), 1: (0.4, 0.2, 0.2, 0.2)}
    labels = np.arange(24) % 2
    texts = [
        "".join(generator.choice(list("ACGT"), 20 + 4 * (i % 3 == 0), p=shares[int(label)]))
        for i, label in enumerate(labels)
    ]
    return from_sequences(texts, labels)


def test_the_stack_equals_the_packed_encoder(encoder, data):
    other = Encoder(SHAPE).double().eval()
    together = stack([encoder, other])
    tokens = tokenize(data, OverlappingKmers(3), SHAPE.max_position_embeddings)
    real = tokens.attention_mask()
    both = Tokens(tokens.ids_NL.expand(2, -1, -1), tokens.lengths_N.expand(2, -1))
    found = compute_hidden_states(together, both)
    layout = SequenceLayout.of(tuple(tokens.lengths_N.tolist()))
    for g, one in enumerate((encoder, other)):
        wanted = one(tokens.ids_NL[real].long(), layout)
        assert torch.allclose(found[g][real], wanted, atol=1e-10)
        assert torch.allclose(unstack(together, g)(tokens.ids_NL[real].long(), layout), wanted)
    short = compute_hidden_states(together, both, places=1)
    assert torch.allclose(short, found[:, :, :1], atol=1e-10)


@pytest.mark.parametrize("finetune", ["full", "frozen", "lora"])
@pytest.mark.parametrize("head", ["cls", "position"])
def test_side_by_side_equals_one_at_a_time(encoder, data, head, finetune):
    """Dropout included: what a model draws is its own."""
    config = FineTuneConfig(head, finetune, "binary", 2)
    data = data.select([i for i in range(24) for _ in range(2) if data.lengths[i] == 20][:24])
    examples = _examples(encoder, config, data)
    index = np.stack([np.random.default_rng(s).permutation(24)[:10] for s in SEEDS])
    targets = torch.from_numpy(data.labels)
    together = Classifiers([encoder] * 3, config, SEEDS)
    losses = _train(together, examples, targets, index, SEEDS)
    for g, seed in enumerate(SEEDS):
        alone = Classifiers([encoder], config, [seed])
        loss = _train(alone, examples, targets, index[g : g + 1], [seed])
        assert losses[g] == pytest.approx(loss[0], abs=1e-9)
        for (name, one), other in zip(alone.named_parameters(), together.parameters(), strict=True):
            assert torch.allclose(one[0], other[g], rtol=0, atol=1e-9), name
        own, all_logits = _predict_logits(alone, examples)[0], _predict_logits(together, examples)
        assert torch.allclose(own, all_logits[g], atol=1e-6)


def _examples(encoder, config, data) -> Examples:
    tokens = tokenize(data, OverlappingKmers(3), SHAPE.max_position_embeddings)
    examples = prepare_examples(encoder, config, tokens, bf16=False)
    return (
        examples
        if examples.hidden_states is None
        else Examples(tokens, examples.hidden_states.double())
    )


def _train(model, examples, targets, index, seeds, recipe=RECIPE):
    data = TrainData(examples, targets, index, seeds)
    return train(model, ClassificationDataModule(data, recipe.batch_size), recipe)


def _predict_logits(model, examples):
    return predict_logits(model, evaluation_loader(EvaluationData(examples)))


def test_training_again_gives_the_same_weights_and_learns(encoder, data):
    config, targets = FineTuneConfig("mean"), torch.from_numpy(data.labels)
    examples, index = _examples(encoder, config, data), np.arange(24)[None]
    recipe = Recipe(learning_rate=1e-2, epochs=60, batch_size=6, dropout=0.0)
    runs = []
    for _ in range(2):
        model = Classifiers([encoder], config, [1])
        _train(model, examples, targets, index, [1], recipe)
        runs.append(_predict_logits(model, examples))
    assert torch.equal(*runs)
    assert (runs[0][0].argmax(1) == targets).double().mean() == 1.0


def test_a_frozen_encoder_stays_and_adapters_move(encoder, data):
    before = {name: x.clone() for name, x in encoder.state_dict().items()}
    for finetune in ("frozen", "lora"):
        config = FineTuneConfig("cls", finetune)
        model = Classifiers([encoder], config, [0])
        targets = torch.from_numpy(data.labels)
        _train(model, _examples(encoder, config, data), targets, np.arange(24)[None], [0])
        if finetune == "lora":
            trained = {
                n.rpartition(".")[2] for n, p in model.encoder.named_parameters() if p.requires_grad
            }
            assert trained == {"down", "up"}
            assert model.encoder.layers[0].mixer.query.up.abs().max() > 0
            assert torch.equal(model.encoder.tokens.weight[0], before["tokens.weight"])
    assert all(torch.equal(x, before[name]) for name, x in encoder.state_dict().items())


def test_adapters_add_their_product_to_the_weights(encoder, data):
    """A plain encoder with weights W + (alpha / r) B A is the reference; merged, it is the same."""
    rank = 4
    stacked = stack([encoder])
    adapt(stacked, rank, [0])
    plain = Encoder(SHAPE).double().eval()
    plain.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        for ours, theirs in zip(stacked.layers, plain.layers, strict=True):
            for name in ADAPTED:
                part = getattr(ours.mixer, name)
                nn.init.normal_(part.up, std=0.2)
                getattr(theirs.mixer, name).weight += ALPHA / rank * (part.up[0] @ part.down[0])
    tokens = tokenize(data, OverlappingKmers(3), SHAPE.max_position_embeddings)
    real = tokens.attention_mask()
    layout = SequenceLayout.of(tuple(tokens.lengths_N.tolist()))
    wanted = plain(tokens.ids_NL[real].long(), layout)
    assert not torch.allclose(wanted, encoder(tokens.ids_NL[real].long(), layout), atol=1e-2)
    for _ in range(2):  # with adapters, and merged
        found = compute_hidden_states(stacked, tokens)[0][real]
        assert torch.allclose(found, wanted, atol=1e-9)
        merge(stacked)


def test_dropout_has_its_rate_and_keeps_the_mean():
    x = torch.ones(2, 400_000)
    dropped = SeededDropout(0.1, [1, 2])(x)
    for row in dropped:
        share = float((row == 0).double().mean())
        assert abs(share - 0.1) < 5 * (0.09 / 400_000) ** 0.5
        assert float(row.mean()) == pytest.approx(1.0, abs=0.003)
    # the two models are independent: both drop a place with probability 0.01
    both = float(((dropped == 0).all(0)).double().mean())
    assert abs(both - 0.01) < 5 * (0.01 / 400_000) ** 0.5


def test_clipping_is_of_each_model():
    model = nn.ParameterList([torch.zeros(2, 3, 4), torch.zeros(2, 5)])
    for p in model:
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
        p.grad[1] *= 1e-3
    small = [p.grad[1].clone() for p in model]
    clip_gradients_per_model(model, 1.0)
    norm = torch.cat([p.grad[0].flatten() for p in model]).norm()
    assert float(norm) == pytest.approx(1.0, abs=1e-5)
    assert all(torch.equal(p.grad[1], x) for p, x in zip(model, small, strict=True))


def test_losses_of_every_kind():
    logits = torch.tensor([[[0.5, -0.5], [2.0, 0.0]]])
    wanted = nn.functional.cross_entropy(logits[0], torch.tensor([0, 1]))
    assert torch.allclose(loss_per_model(logits, torch.tensor([[0, 1]]), "binary"), wanted)
    labels = torch.tensor([[[0, 1], [1, 1]]])
    wanted = nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
    assert torch.allclose(loss_per_model(logits, labels, "multilabel"), wanted)
    found = loss_per_model(logits[..., :1], torch.tensor([[1.0, 0.0]]), "regression")
    assert found.item() == pytest.approx((0.25 + 4) / 2)


def test_targets_of_a_regression_are_scaled_and_answers_are_in_its_unit():
    labels = np.array([3.0, 5.0, 10.0], np.float32)
    scale = LabelScale.fit(labels, "regression")
    targets = scale.targets(labels)
    assert targets.mean().item() == pytest.approx(0, abs=1e-6)
    assert targets.std(correction=0).item() == pytest.approx(1)
    assert np.allclose(scale.to_label_units(targets[None, :, None]), labels[None])
    classes = LabelScale.fit(np.array([0, 1]), "binary")
    assert classes.targets(np.array([0, 1])).tolist() == [0, 1]
    assert classes.to_label_units(torch.ones(1, 2, 2)).shape == (1, 2, 2)


def test_a_training_ends_at_its_most_steps(encoder, data):
    """In the middle of an epoch: of 24 examples in batches of 4, after 8 steps."""
    config, epochs = FineTuneConfig("cls", "frozen"), []
    recipe = Recipe(learning_rate=1e-3, epochs=5, batch_size=4, max_steps=8)
    split = TrainData(
        _examples(encoder, config, data), torch.from_numpy(data.labels), np.arange(24)[None], [0]
    )
    taken = []

    class Noting(Classifiers):
        def forward(self, examples, dropout):
            taken.append(len(examples.tokens.lengths_N[0]))
            return super().forward(examples, dropout)

    model = Noting([encoder], config, [0])
    train(model, ClassificationDataModule(split, 4), recipe, after_epoch=epochs.append)
    assert taken == [4] * 8
    assert epochs == [0, 1]


def test_a_head_for_tokens_trains(encoder, data):
    """Labels of every token: is the k-mer's first base an A? [CLS] and [SEP] have none."""
    tokens = tokenize(
        data.select(np.flatnonzero(data.lengths == 20)),
        OverlappingKmers(3),
        SHAPE.max_position_embeddings,
    )
    ids = tokens.ids_NL.long()
    targets = torch.where(ids < 5, -100, ((ids - 5) // 16 == 0).long())
    model = Classifiers([encoder], FineTuneConfig("token"), [0])
    recipe = Recipe(learning_rate=1e-2, epochs=80, batch_size=8)
    index = np.arange(len(tokens))[None]
    _train(model, Examples(tokens), targets, index, [0], recipe)
    found = model(
        Examples(Tokens(tokens.ids_NL[None], tokens.lengths_N[None])), SeededDropout(0.0, [0])
    )
    right = (found[0].argmax(-1) == targets)[targets >= 0]
    assert right.double().mean() > 0.99


def test_the_middle_of_what_is_too_long_and_nothing_too_short():
    data = pack_codes(map(encode_bases, ["ACGTACGTAC", "ACGTAACCGGTTACGTAACC"]))
    tokens = tokenize(data, OverlappingKmers(3), positions=10)  # 8 k-mers, 10 bases
    assert tokens.lengths_N.tolist() == [10, 10]
    middle = tokenize(pack_codes([encode_bases("ACCGGTTACG")]), OverlappingKmers(3), 10)
    assert torch.equal(tokens.ids_NL[1], middle.ids_NL[0])
    with pytest.raises(UserError, match="found 2 bases, wanted at least 3"):
        tokenize(pack_codes([encode_bases("AC")]), OverlappingKmers(3), 10)


def test_recipes_are_the_published_ones():
    small, large = few_shot_recipe(100), few_shot_recipe(500)
    assert (small.learning_rate, small.epochs, small.batch_size) == (1e-4, 20, 5)
    assert (large.learning_rate, large.epochs, large.batch_size) == (5e-5, 5, 15)
    assert (small.warmup_fraction, small.dropout, small.weight_decay) == (0.1, 0.1, 0.01)
    assert small.steps(20) == 80
    assert small.warmup(80) == 8
    gue = full_recipe(find_task("gue/prom/prom_core_all"))
    assert (gue.learning_rate, gue.batch_size, gue.warmup(1000)) == (3e-5, 32, 50)
