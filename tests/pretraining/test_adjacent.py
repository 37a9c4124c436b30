"""Tokens side by side, all the way: pretraining, inspection, scores, evaluation, export."""

import json

import numpy as np
import pytest
import torch
from helpers.model_commands import evaluate_on_random_dna, score_variant
from helpers.paths import EXPERIMENTS

from cmgems.cli import main
from cmgems.errors import UserError
from cmgems.genome.alphabet import encode_bases
from cmgems.hub.pretrained import load_pretrained
from cmgems.masking.strategies import STRATEGIES
from cmgems.models.layouts import SequenceLayout
from cmgems.runs.experiment import load
from cmgems.tokenization.base import MASK

NAMES = ("nonoverlapping", "bpe")
# Unknown bases, U, lower case, lengths that are no multiple of k.
SEQUENCES = {"one": "ACGUACGTTTGACANNGATTACAACGTACGTTTGACA", "two": "acgttgcaT", "three": "A"}


def experiment(name):
    return str(EXPERIMENTS / f"pretrain/{name}.yaml")


REFUSED = ("markov_easy", "markov_hard", "reducible")


@pytest.fixture(scope="module", autouse=True)
def small_corpus():
    """Rates are measured on few windows, which is much of the time of a run so short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmgems.training.masks.CORPUS_WINDOWS", 64)
        yield


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def run(name, tiny, tmp_path_factory):
    """The folder of a finished run of six steps, made by the command."""
    folder = tmp_path_factory.mktemp(name) / "run"
    settings = [*tiny, "data.window_length=300", "train.max_steps=6", f"run.dir={folder}"]
    assert main(["pretrain", experiment(name), *settings]) == 0
    return folder


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "sequences.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in SEQUENCES.items()))
    return path


def codes_of(text):
    return torch.from_numpy(encode_bases(text.replace("U", "T")))


@torch.no_grad()
def logits_of(model, ids_N):
    return model(ids_N, SequenceLayout.of((len(ids_N),)), torch.arange(len(ids_N)))


def test_a_run_has_its_results(run, name):
    results = json.loads((run / "results.json").read_text())
    for masked in results["masked_fraction"].values():
        assert masked == pytest.approx(0.15, abs=0.06)  # of a few short windows
    final = results["final"]["random_wide"]
    # Nothing overlaps: a masked token is hidden, so what is known of one is known of the other.
    assert final["hidden_token_accuracy"] == pytest.approx(final["accuracy"])
    assert 1.5 < final["hidden_base_bits"] < 3
    assert results["reference"]["hidden_bases"] > 0
    assert 1.5 < results["reference"]["composition_bits"] < 2.1
    model = load_pretrained(run)
    assert model.tokenization.name == name
    assert len(model.model.bias) == model.tokenization.vocab_size


def test_a_stopped_run_goes_on_as_if_it_had_not(run, name, tiny, tmp_path, monkeypatch):
    from helpers.runs import assert_same_run, interrupt_when_window_is_drawn

    settings = [*tiny, "data.window_length=300", "train.max_steps=6", f"run.dir={tmp_path / 'run'}"]
    interrupt_when_window_is_drawn(monkeypatch, 4 * 4)
    assert main(["pretrain", experiment(name), *settings]) == 130
    assert main(["pretrain", experiment(name), *settings, "run.resume=true"]) == 0
    assert_same_run(run, tmp_path / "run")


@pytest.mark.parametrize("strategy", ["span", "soft_pmi", "loss_adaptive"])
def test_other_strategies_can_be_a_run(strategy, name, tiny, tmp_path):
    constant = [f"curriculum.strategies={strategy}", "curriculum.schedule=constant"]
    settings = [*tiny, *constant, "train.max_steps=3", f"run.dir={tmp_path / 'run'}"]
    assert main(["pretrain", experiment(name), *settings]) == 0


def test_inspect(name, tiny, tmp_path):
    out = tmp_path / "page.html"
    settings = [*tiny, "train.max_steps=6", "region=chr20:45,000,000-45,002,000", f"out={out}"]
    assert main(["inspect", experiment(name), *settings]) == 0
    page = out.read_text()
    assert "every masked base is" in page
    rows = {row.split("<")[0]: row for row in page.split("<tr><td>")[1:]}
    has_ngrams = name == "bpe"  # which no Markov model of k-mers ranks
    assert {x for x in STRATEGIES if x not in rows} == {x for x in REFUSED if has_ngrams}
    for strategy in set(STRATEGIES) & set(rows):
        cells = [cell.split("<")[0] for cell in rows[strategy].split("<td>")[1:]]
        assert cells[2] == "0.00"  # nothing can be copied
        assert 2 < float(cells[3]) < 12  # hidden bases per token


def test_embed(run, fasta, tmp_path):
    assert main(["embed", str(run), str(fasta), "--out", str(tmp_path / "v.npz")]) == 0
    tokens = tmp_path / "t.npz"
    assert main(["embed", str(run), str(fasta), "--pool", "tokens", "--out", str(tokens)]) == 0
    pooled, states = np.load(tmp_path / "v.npz")["vectors"], np.load(tokens)
    tokenization = load_pretrained(run).tokenization
    for number, text in enumerate(SEQUENCES.values()):
        ids = tokenization.encode(codes_of(text))
        assert len(states[str(number)]) == len(ids)
        assert np.allclose(states[str(number)].mean(0), pooled[number], atol=1e-5)


def test_a_long_sequence_is_embedded_in_windows_of_tokens(run, genome):
    """Each token has the state that it has in the first window which holds it."""
    from cmgems.inference.embedding import embed_sequences, embed_tokens
    from cmgems.tasks.dataset import pack_codes
    from cmgems.tasks.tokens import tokenize_windows

    model, codes = load_pretrained(run), np.array(genome.codes[:9_000])
    encoder, positions = model.model.encoder, model.model.encoder.config.max_position_embeddings
    codes[4_000:4_007] = 4
    tokens, rows = tokenize_windows(pack_codes([codes]), model.tokenization, positions)
    ids = model.tokenization.encode(torch.from_numpy(codes))
    assert len(tokens) > 1
    assert int(tokens.lengths_N.max()) <= positions
    for row, (start, length) in enumerate(zip(rows.start, rows.length, strict=True)):
        assert tokens.ids_NL[row, 1 : length + 1].tolist() == ids[start : start + length].tolist()
    states = embed_tokens(encoder, codes, model.tokenization)
    assert states.shape[0] == len(ids)
    assert np.isfinite(embed_sequences(encoder, pack_codes([codes]), model.tokenization)).all()


def test_a_sequence_with_too_many_tokens_is_cut_to_its_middle(run, genome):
    from cmgems.tasks.dataset import pack_codes
    from cmgems.tasks.tokens import tokenize

    tokenization = load_pretrained(run).tokenization
    data = pack_codes([np.array(genome.codes[:500]), np.array(genome.codes[500:540])])
    whole = tokenization.encode(torch.from_numpy(data.codes[:500])).tolist()
    tokens = tokenize(data, tokenization, positions=22)
    first = (len(whole) - 20) // 2
    assert tokens.ids_NL[0].tolist() == [2, *whole[first : first + 20], 3]
    other = tokenization.encode(torch.from_numpy(data.codes[500:])).tolist()
    assert tokens.select(torch.tensor([1])).ids_NL[0].tolist() == [2, *other, 3]


def test_score(run, fasta, tmp_path):
    """The likelihood of a base is read off the distribution of its token, with [MASK] there."""
    out = tmp_path / "scores.tsv"
    assert main(["score", str(run), "--sequences", str(fasta), "--out", str(out)]) == 0
    rows = [line.split("\t") for line in out.read_text().splitlines()[1:]]
    assert [row[:3] for row in rows] == [
        ["one", "37", "35"],
        ["two", "9", "9"],
        ["three", "1", "1"],
    ]
    model, text = load_pretrained(run), SEQUENCES["two"]
    tokenization = model.tokenization
    ids_K = tokenization.encode(codes_of(text))
    total, codes_BL = 0.0, codes_of(text)[None]
    base = 0
    for place, id_ in enumerate(ids_K.tolist()):
        bases = len(tokenization.vocabulary[id_])
        shown = torch.tensor([2, *ids_K.tolist(), 3])
        shown[place + 1] = MASK
        wanted = torch.zeros(1, len(text), dtype=torch.bool)
        wanted[0, base : base + bases] = True
        mask = (torch.arange(len(ids_K)) == place)[None]
        logits = logits_of(model.model, shown)[place + 1][None]
        scores = tokenization.score_bases(logits, mask, wanted, codes_BL, ids_K[None])
        total -= float(scores.bits_H.sum()) * np.log(2)
        base += bases
    assert float(rows[1][3]) == pytest.approx(total, abs=1e-3)


def test_a_sequence_with_more_tokens_than_positions_is_one_line(run, tmp_path, capsys):
    """The limit is one of tokens: N is a token each."""
    positions = load_pretrained(run).model.encoder.config.max_position_embeddings
    path = tmp_path / "long.fa"
    path.write_text(f">long\n{'ACGT' + 'N' * (positions - 2)}\n")
    assert main(["score", str(run), "--sequences", str(path)]) == 2
    error = capsys.readouterr().err
    assert f"{path}: long has " in error
    assert f"tokens, wanted at most {positions - 2} for this model" in error
    assert error.strip().count("\n") == 0


@pytest.mark.parametrize("place", [3, 1_000_000])
def test_variants(place, run, tmp_path, genome):
    """In the middle of a contig, and where the window ends with it."""
    assert np.isfinite(score_variant(run, genome, place, tmp_path))


@pytest.mark.parametrize("protocol", ["few_shot", "probe", "zero_shot"])
def test_evaluate(protocol, run, name, tmp_path):
    results = evaluate_on_random_dna(run, protocol, tmp_path, "ACGTN")
    assert {model["tokenization"] for model in results["models"]} == {name}
    assert len(results["scores"]) == 3 if protocol != "zero_shot" else results["scores"]


def test_a_saved_classifier_knows_its_tokens(run, tmp_path):
    from cmgems.evaluation.finetuning.classifier import load_classifier

    settings = [f"models={run}", "tasks.names=shuffled", "protocol=full"]
    settings += ["recipe.max_steps=2", "save_classifiers=true", "check_leakage=false"]
    settings += ["baselines=kmers", "compute.workers=1", f"run.dir={tmp_path / 'out'}"]
    assert main(["evaluate", str(EXPERIMENTS / "finetune/quickstart.yaml"), *settings]) == 0
    (folder,) = (tmp_path / "out/classifiers").iterdir()
    assert load_classifier(folder).tokenization == load_pretrained(run).tokenization


def test_export_goes_to_transformers_and_back(run, tmp_path, genome):
    transformers = pytest.importorskip("transformers", reason="wanted: pip install cmgems[peers]")
    folder = tmp_path / "exported"
    assert main(["export", str(run), str(folder)]) == 0
    theirs = transformers.BertForMaskedLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ours = load_pretrained(run)
    codes = np.array(genome.codes[:1_001])
    codes[300:304] = 4
    text = "".join("ATCGN"[code] for code in codes)
    ids = ours.tokenization.encode(torch.from_numpy(codes))
    for written in (text, text.lower()):
        assert tokenizer(written)["input_ids"] == [2, *ids.tolist(), 3]
    inputs = tokenizer(f"ACGTAC{tokenizer.mask_token}ACGTACG", return_tensors="pt")
    assert (inputs["input_ids"] == MASK).sum() == 1
    with torch.no_grad():
        logits = theirs(**inputs).logits[0]
    assert torch.allclose(logits, logits_of(ours.model, inputs["input_ids"][0]), atol=1e-5)
    back = load_pretrained(folder)
    assert back.tokenization == ours.tokenization
    weights = back.model.state_dict()
    assert all(torch.equal(weights[key], x) for key, x in ours.model.state_dict().items())
    assert ours.tokenization.description in (folder / "README.md").read_text()


def test_mask_of_sequences(name, tiny):
    """From Python: what is hidden is what the masked tokens spell."""
    from cmgems.api import mask

    found = load(experiment(name), [*tiny, "train.max_steps=6"])
    texts = ["GATTACAGATTACAGATTACAGATTACA", "ACGTNACGTACGTACG", "AC"]
    for text, masked in zip(texts, mask(texts, "random_wide", found, seed=3), strict=True):
        assert "".join(token if token != "[UNK]" else "N" for token in masked.tokens) == text
        hidden = "".join(
            ("x" if is_masked else ".") * (1 if token == "[UNK]" else len(token))
            for token, is_masked in zip(masked.tokens, masked.mask, strict=True)
        )
        assert [x == "x" for x in hidden] == masked.hidden.tolist()


def test_plan(name, capsys):
    assert main(["plan", experiment(name)]) == 0
    assert "at most" in capsys.readouterr().out


def test_genemask_cannot_mask_most_tokens(name, tiny, capsys):
    """It moves centres to the best token around, where others are: not all can be reached."""
    assert main(["plan", experiment(name), *tiny, "masking.mask_ratio=0.6"]) == 2
    error = capsys.readouterr().err
    assert "masking.mask_ratio: found 0.6, wanted at most 0.5 with strategy genemask" in error


def test_the_fast_start_is_refused(name, tiny, capsys):
    assert main(["plan", experiment(name), *tiny, "model.init=fast_start"]) == 2
    error = capsys.readouterr().err
    assert "model.init: found fast_start, which is made for overlapping k-mers" in error


def test_a_run_does_not_go_on_with_other_tokens(run, name, tiny, tmp_path, capsys):
    bases = str(EXPERIMENTS / "pretrain/bases.yaml")
    (tmp_path / "run").symlink_to(run)
    settings = [*tiny, f"run.dir={tmp_path / 'run'}", "run.resume=true", "train.max_steps=3"]
    (run / "results.json").rename(tmp_path / "results.json")
    try:
        assert main(["pretrain", bases, *settings]) == 2
    finally:
        (tmp_path / "results.json").rename(run / "results.json")
    error = capsys.readouterr().err
    assert f"data.tokenization: the run in {tmp_path / 'run'} has '{name}'" in error


def test_weights_of_another_tokenization_than_the_config_says(run, name, tmp_path):
    import shutil

    shutil.copytree(run, tmp_path / "run")
    config = tmp_path / "run/config.yaml"
    config.write_text(config.read_text().replace(f"tokenization: {name}", "tokenization: bases"))
    with pytest.raises(UserError, match=r"found data.tokenization .*wanted 'bases'") as caught:
        load_pretrained(tmp_path / "run")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("strategy", ["global_pmi", "genemask", "span", "uniform"])
def test_check_masking(strategy, name, capsys):
    assert main(["check-masking", strategy, "--tokenization", name]) == 0
    assert "FAIL" not in capsys.readouterr().out


def test_a_run_of_byte_pairs_keeps_its_own_vocabulary(tiny, tmp_path, capsys):
    """Its folder has all that its model needs; a resumed run refuses another one."""
    from cmgems.tokenization.bpe_file import read_byte_pairs

    genome = tmp_path / "small.fa"
    bases = np.random.default_rng(0).choice(list("ACGT"), 40_000, p=[0.3, 0.2, 0.2, 0.3])
    genome.write_text(f">chr1\n{''.join(bases)}\n")
    settings = [*tiny, "data.bpe_vocab_size=64", f"run.dir={tmp_path / 'run'}", "train.max_steps=3"]
    settings.append(f"data.genome={genome}")
    assert main(["pretrain", experiment("bpe"), *settings]) == 0
    tokenizer = tmp_path / "run/tokenizer.json"
    mine = read_byte_pairs(str(tokenizer))
    assert mine.vocab_size == 64
    (tmp_path / "run/results.json").unlink()
    content = json.loads(tokenizer.read_text())
    content["model"]["merges"] = content["model"]["merges"][::-1]
    tokenizer.write_text(json.dumps(content))
    assert main(["pretrain", experiment("bpe"), *settings, "run.resume=true"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{tokenizer}: has other tokens than" in error
    content["model"]["vocab"] = {t: i for t, i in content["model"]["vocab"].items() if i < 12}
    content["model"]["merges"] = []
    tokenizer.write_text(json.dumps(content))
    with pytest.raises(UserError, match="weights of another model"):
        load_pretrained(tmp_path / "run")
