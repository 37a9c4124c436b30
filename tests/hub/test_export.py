"""Weights to Hugging Face's BERT and back: the same logits and loss, nothing lost or guessed."""

import json
import re
import shutil

import pytest
import torch
import torch.nn.functional as F
from helpers.encoders import tiny_config

import cmgems.hf
from cmgems.cli import main
from cmgems.config.encoders import Model, encoder_keys
from cmgems.config.schema import Experiment
from cmgems.errors import UserError
from cmgems.genome.alphabet import encode_bases
from cmgems.hub.bert_weights import (
    bert_config,
    bert_states,
    classifier_states,
    masked_lm_states,
    matches,
)
from cmgems.hub.folder import write_folder
from cmgems.hub.pretrained import load_pretrained
from cmgems.models.encoder import EncoderConfig, MaskedLanguageModel
from cmgems.models.layouts import SequenceLayout
from cmgems.tokenization import OverlappingKmers
from cmgems.tokenization.base import FIRST_TOKEN, PAD
from cmgems.tokenization.hf import kmer_text

transformers = pytest.importorskip("transformers", reason="wanted: pip install cmgems[peers]")
transformers.utils.logging.disable_progress_bar()
LENGTHS = (12, 30, 30)


def preset_shape(preset, k):
    """A preset's sizes; BERT-base with 2 of its 12 layers, each of which is like the others."""
    layers = 2 if preset == "dnabert" else None
    return EncoderConfig(
        **encoder_keys(Model(preset=preset, num_layers=layers)),
        vocab_size=OverlappingKmers(k).vocab_size,
    )


def scramble(module, seed=0):
    """Weights with nothing at 0 or 1, where a slip would not show.

    A little larger than BERT's at the start (0.02). Rounding grows with them: at 0.05 either
    implementation is up to 1e-5 away from what it computes in float64.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.03
            parameter.copy_(noise + (1 if "norm.weight" in name.lower() else 0))
    return module.eval()


def batch(vocabulary):
    """Padded ids [B, L], attention mask, and labels (-100 where nothing is predicted)."""
    generator = torch.Generator().manual_seed(1)
    shape = (len(LENGTHS), max(LENGTHS))
    real = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    ids = torch.randint(FIRST_TOKEN, vocabulary, shape, generator=generator).where(real, PAD)
    masked = (torch.rand(shape, generator=generator) < 0.3) & real
    labels = torch.randint(FIRST_TOKEN, vocabulary, shape, generator=generator).where(masked, -100)
    return ids, real, labels


@torch.no_grad()
def assert_alike(ours, theirs):
    """Logits and pretraining loss within 1e-5 in float32."""
    ids, real, labels = batch(ours.encoder.config.vocab_size)
    wanted = theirs(input_ids=ids, attention_mask=real.long(), labels=labels)
    layout, everywhere = SequenceLayout.of(LENGTHS), torch.arange(sum(LENGTHS))
    logits = ours(ids[real], layout, everywhere)
    assert wanted.logits.abs().max() > 0.3
    assert (logits - wanted.logits[real]).abs().max() < 1e-5
    at = (labels != -100)[real].nonzero()[:, 0]
    loss = F.cross_entropy(ours(ids[real], layout, at), labels[real][at])
    assert loss.item() == pytest.approx(wanted.loss.item(), abs=1e-5)


def write(model, k, folder, **more):
    shape = model.encoder.config
    write_folder(
        folder,
        masked_lm_states(model),
        bert_config(shape, OverlappingKmers(k), **more),
        OverlappingKmers(k),
        "# card\n",
    )
    return folder


@pytest.mark.parametrize("k", [3, 4, 5, 6])
@pytest.mark.parametrize("preset", ["small", "logo", "dnabert"])
def test_an_exported_model_has_our_logits_in_transformers(preset, k, tmp_path):
    ours = scramble(MaskedLanguageModel(preset_shape(preset, k)))
    folder = write(ours, k, tmp_path / "out")
    theirs, notes = transformers.BertForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(notes.values()), notes
    assert_alike(ours, theirs.eval())
    back = load_pretrained(folder)
    assert back.tokenization == OverlappingKmers(k)
    for name, state in ours.state_dict().items():
        assert torch.equal(back.model.state_dict()[name], state), name


@pytest.mark.parametrize("k", [3, 4, 5, 6])
@pytest.mark.parametrize("preset", ["small", "logo", "dnabert"])
def test_a_model_of_transformers_has_its_logits_here(preset, k, tmp_path):
    config = transformers.BertConfig(**bert_config(preset_shape(preset, k), OverlappingKmers(k)))
    theirs = scramble(transformers.BertForMaskedLM(config))
    assert theirs.bert.embeddings.token_type_embeddings.weight[0].abs().max() > 0.01
    theirs.save_pretrained(tmp_path)
    write_vocabulary(tmp_path, k)
    ours = load_pretrained(tmp_path)
    assert ours.tokenization == OverlappingKmers(k)
    assert_alike(ours.model, theirs)


def write_vocabulary(folder, k):
    (folder / "vocab.txt").write_text(
        "".join(f"{token}\n" for token in OverlappingKmers(k).vocabulary)
    )


# As DNABERT's fork of transformers 2.5 wrote it: no model_type, keys of its own.
DNABERT_CONFIG = {
    "architectures": ["BertForMaskedLM"],
    "attention_probs_dropout_prob": 0.1,
    "finetuning_task": None,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 48,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "is_decoder": False,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_rnn_layer": 1,
    "pruned_heads": {},
    "rnn": "lstm",
    "split": 10,
    "torchscript": False,
    "type_vocab_size": 2,
    "vocab_size": 69,
}


@pytest.fixture(scope="module")
def dnabert(tmp_path_factory):
    """(folder in the form of DNABERT's published ones, the same model in transformers)"""
    folder = tmp_path_factory.mktemp("dnabert")
    theirs = scramble(transformers.BertForMaskedLM(transformers.BertConfig(**DNABERT_CONFIG)))
    states = dict(theirs.state_dict())
    width = DNABERT_CONFIG["hidden_size"]
    states["bert.embeddings.position_ids"] = torch.arange(64)[None]
    states["bert.pooler.dense.weight"] = torch.randn(width, width)
    states["bert.pooler.dense.bias"] = torch.randn(width)
    torch.save(states, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    (folder / "config.json").write_text(json.dumps(DNABERT_CONFIG))
    write_vocabulary(folder, 3)
    return folder, theirs


def test_a_folder_in_dnaberts_form_loads(dnabert):
    folder, theirs = dnabert
    loaded = load_pretrained(folder)
    assert (loaded.tokenization, loaded.step) == (OverlappingKmers(3), None)
    assert loaded.source == str(folder / "pytorch_model.bin")
    assert_alike(loaded.model, theirs)


def test_the_vocabulary_may_stand_in_tokenizer_json_alone(tmp_path):
    folder = write(scramble(MaskedLanguageModel(TINY)), 3, tmp_path / "out")
    (folder / "vocab.txt").unlink()
    assert load_pretrained(folder).tokenization == OverlappingKmers(3)


TINY = tiny_config(num_layers=1, hidden_size=16, num_heads=2, intermediate_size=32)


def edit_config(**keys):
    def edit(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | keys))

    return edit


def edit_weights(change):
    def edit(folder):
        path = folder / "pytorch_model.bin"
        states = torch.load(path, weights_only=True)
        change(states)
        torch.save(states, path)

    return edit


def edit_vocabulary(change):
    def edit(folder):
        path = folder / "vocab.txt"
        path.write_text(change(path.read_text()))

    return edit


def store_an_object(folder):
    torch.save({"weight": Experiment()}, folder / "pytorch_model.bin")


def cut_weights(folder):
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:2000])


WORDS = "bert.embeddings.word_embeddings.weight"
QUERY = "bert.encoder.layer.2.attention.self.query.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edit_config(position_embedding_type="relative_key"), "position_embedding_type: found"),
        (edit_config(hidden_act="relu"), "hidden_act: found 'relu'"),
        (edit_config(layer_norm_eps=0), "layer_norm_eps: found 0, wanted a number between"),
        (edit_config(model_type="t5"), "model_type: found 't5', wanted one of bert, esm, modern"),
        (edit_config(architectures=["RobertaForMaskedLM"]), "model_type: found ['RobertaForMa"),
        (edit_config(pruned_heads={"0": [1]}), "pruned_heads: found"),
        (edit_config(hidden_size="48"), "hidden_size: found '48'"),
        (edit_config(hidden_size=50), "hidden_size: found 50, wanted a multiple of 4 heads"),
        (edit_config(vocab_size=70), "vocab_size: found 70, but vocab.txt has 69 tokens"),
        (edit_config(intermediate_size=95), "encoder.layers.0.mlp.up.weight: found the shape"),
        (edit_config(num_hidden_layers=2), "found a weight bert.encoder.layer.2"),
        (edit_config(num_hidden_layers=4), "found no weight bert.encoder.layer.3"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "wanted an object"),
        (lambda folder: (folder / "vocab.txt").unlink(), "no vocab.txt"),
        (
            edit_vocabulary(lambda text: text + "GGGG\n"),
            "found 65 tokens that are not special, wanted 64, 256",
        ),
        (edit_vocabulary(lambda text: text.replace("AAT\nAAC", "AAN\nAAC")), "found no token AAT"),
        (edit_vocabulary(lambda text: text.replace("[PAD]", "[END]")), "found no token [PAD]"),
        (edit_vocabulary(lambda text: text.replace("AAT\nAAC", "AAC\nAAC")), "AAC twice"),
        (edit_weights(lambda states: states.pop(QUERY)), f"found no weight {QUERY}"),
        (edit_weights(lambda states: states.clear()), "found no weight bert.embeddings"),
        (edit_weights(lambda states: states.update(x=torch.ones(1))), "found a weight x, which"),
        (edit_weights(lambda states: states[QUERY].fill_(torch.nan)), "not finite"),
        (
            edit_weights(lambda states: states.update({WORDS: states[WORDS] + 1})),
            "cls.predictions.decoder.weight is not tied",
        ),
        (
            edit_weights(lambda states: states["bert.embeddings.position_ids"].zero_()),
            "does not count from 0",
        ),
        (store_an_object, "which was not run"),
        (cut_weights, "damaged"),
        (lambda folder: (folder / "pytorch_model.bin").unlink(), "no weights there"),
    ],
)
def test_what_is_not_our_architecture_is_refused_in_one_line(damage, message, dnabert, tmp_path):
    folder = shutil.copytree(dnabert[0], tmp_path / "folder")
    damage(folder)
    with pytest.raises(UserError) as refused:
        load_pretrained(folder)
    assert message in str(refused.value)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_damaged_safetensors_file_is_refused(tmp_path):
    folder = write(scramble(MaskedLanguageModel(TINY)), 3, tmp_path / "out")
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match="damaged"):
        load_pretrained(folder)


def test_every_name_is_mapped_once():
    theirs = [piece for match in matches(3) for piece in match.theirs]
    assert len(theirs) == len(set(theirs))
    model = MaskedLanguageModel(tiny_config())
    ours = [name for match in matches(3) for name in match.ours]
    assert sorted(ours) == sorted(model.state_dict())


def test_a_weight_that_bert_does_not_have_is_not_dropped():
    model = MaskedLanguageModel(TINY)
    model.encoder.gate = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"encoder\.gate"):
        masked_lm_states(model)
    with pytest.raises(UserError, match=r"encoder\.gate"):
        bert_states(model.encoder)


def test_a_classifier_has_our_logits_in_transformers(tmp_path):
    encoder = scramble(MaskedLanguageModel(TINY)).encoder
    pooler, classifier = (scramble(torch.nn.Linear(16, n), seed=n) for n in (16, 3))
    labels = {str(number): name for number, name in enumerate(("exon", "donor", "acceptor"))}
    config = bert_config(
        TINY,
        OverlappingKmers(3),
        architectures=["BertForSequenceClassification"],
        id2label=labels,
        label2id={name: int(number) for number, name in labels.items()},
    )
    states = classifier_states(encoder, pooler, classifier)
    write_folder(tmp_path / "out", states, config, OverlappingKmers(3), "# card\n")
    theirs, notes = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(notes.values()), notes
    ids, real, _ = batch(69)
    with torch.no_grad():
        wanted = theirs.eval()(input_ids=ids, attention_mask=real.long()).logits
        layout = SequenceLayout.of(LENGTHS)
        first = encoder(ids[real], layout)[layout.position_ids == 0]
        found = classifier(torch.tanh(pooler(first)))
    assert (found - wanted).abs().max() < 1e-5
    assert theirs.config.id2label[1] == "donor"


def test_export_writes_a_folder_for_transformers(pretrained_run, tmp_path, capsys):
    out = tmp_path / "new" / "exported"
    assert main(["export", str(pretrained_run), str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert [path.name for path in out.parent.iterdir()] == ["exported"]
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(out).eval()
    assert_alike_anywhere(load_pretrained(pretrained_run).model, theirs)
    card = (out / "README.md").read_text()
    results = json.loads((pretrained_run / "results.json").read_text())
    assert f"{results['final']['random']['perplexity']:.2f}" in card
    assert results["genome"]["sha256"] in card
    assert load_pretrained(pretrained_run).sha256 in card
    assert str(pretrained_run) not in card  # where it lay is nobody's business

    # the first example of the card is run as it stands
    found: dict = {}
    exec(re.search(r"```python\n(.+?)```", card, re.DOTALL)[1].replace("PATH", str(out)), found)
    assert found["logits"].shape == (1, 24, 4101)
    assert (found["tokenizer"](" ".join(found["kmers"])).input_ids[4:10]) == [4] * 6
    plain = cmgems.hf.Tokenizer.from_pretrained(out)(found["sequence"].lower()).input_ids
    words = kmer_text(found["sequence"], 6)
    assert plain == found["tokenizer"](words).input_ids

    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    sequence = "ACGTACGTTTGNACAGGAT"
    ids = tokenizer(kmer_text(sequence, 6))["input_ids"]
    assert (
        ids[1:-1] == OverlappingKmers(6).encode(torch.from_numpy(encode_bases(sequence))).tolist()
    )
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id) == (2, 3)
    assert (tokenizer.mask_token_id, tokenizer.pad_token_id) == (4, 0)


@torch.no_grad()
def assert_alike_anywhere(ours, theirs):
    """For a hardly trained model, whose logits are small."""
    ids, real, _ = batch(ours.encoder.config.vocab_size)
    wanted = theirs(input_ids=ids, attention_mask=real.long()).logits[real]
    logits = ours(ids[real], SequenceLayout.of(LENGTHS), torch.arange(sum(LENGTHS)))
    assert (logits - wanted).abs().max() < 1e-5


def test_export_refuses_a_folder_that_holds_something(pretrained_run, tmp_path, capsys):
    (tmp_path / "keep.txt").write_text("mine")
    assert main(["export", str(pretrained_run), str(tmp_path)]) == 2
    assert "wanted a new or empty one" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["keep.txt"]


def test_a_failed_export_leaves_nothing_behind(pretrained_run, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cmgems.hub.folder.write_tokenizer", fail)
    assert main(["export", str(pretrained_run), str(tmp_path / "out")]) == 130
    assert not list(tmp_path.iterdir())


def test_what_loss_adaptive_keeps_is_not_exported(pretrained_run, tmp_path):
    """It belongs to the masks of the run, not to the model."""
    run = shutil.copytree(pretrained_run, tmp_path / "run")
    path = run / "checkpoints/best.ckpt"
    saved = torch.load(path, weights_only=True)
    saved["state_dict"]["masker.losses.nats_V"] = torch.ones(4096)
    from cmgems.runs.io import SafeCheckpoints

    SafeCheckpoints({}).save_checkpoint(saved, path)
    assert main(["export", str(run), str(tmp_path / "out")]) == 0
    assert load_pretrained(tmp_path / "out").tokenization == OverlappingKmers(6)
