"""Single bases as tokens, all the way: pretraining, inspection, scores, evaluation, export."""

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
from cmgems.runs.experiment import load
from cmgems.tokenization import OverlappingKmers, SingleBases

BASES = str(EXPERIMENTS / "pretrain/bases.yaml")
SEQUENCES = {"one": "ACGTACGTTTGACANNGATTACAACGTACGTTTGACA", "two": "acgttgcaT"}


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """The folder of a finished run of six steps of `bases.yaml`, made by the command."""
    folder = tmp_path_factory.mktemp("bases") / "run"
    steps = ["train.max_steps=6", f"run.dir={folder}"]
    assert main(["pretrain", BASES, *tiny, *steps]) == 0
    return folder


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "sequences.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in SEQUENCES.items()))
    return path


def test_a_run_has_its_results(run):
    results = json.loads((run / "results.json").read_text())
    for masked in results["masked_fraction"].values():
        assert masked == pytest.approx(0.15, abs=0.06)  # of a few short windows
    final = results["final"]["random_wide"]
    # Every masked base is hidden, so what is paid per token is what is paid per base.
    assert final["hidden_token_accuracy"] == pytest.approx(final["accuracy"])
    assert 1.5 < final["hidden_base_bits"] < 2.5
    assert results["reference"]["hidden_bases"] > 0
    model = load_pretrained(run)
    assert model.tokenization == SingleBases(6)
    assert model.model.bias.shape == (10,)


@pytest.mark.parametrize("name", ["span", "soft_pmi", "loss_adaptive"])
def test_other_strategies_can_be_a_run(name, tiny, tmp_path):
    constant = [f"curriculum.strategies={name}", "curriculum.schedule=constant"]
    settings = [*tiny, *constant, "train.max_steps=3", f"run.dir={tmp_path / 'run'}"]
    assert main(["pretrain", BASES, *settings]) == 0


def test_inspect(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("cmgems.training.masks.CORPUS_WINDOWS", 32)  # a rate per strategy
    out = tmp_path / "page.html"
    settings = [*tiny, "train.max_steps=6", "region=chr20:45,000,000-45,002,000", f"out={out}"]
    assert main(["inspect", BASES, *settings]) == 0
    page = out.read_text()
    assert "Tokens are single bases: every masked base is" in page
    rows = {row.split("<")[0]: row for row in page.split("<tr><td>")[1:]}
    for name in STRATEGIES:
        cells = [cell.split("<")[0] for cell in rows[name].split("<td>")[1:]]
        # share of tokens = share of bases; nothing can be copied; one hidden base per token
        assert cells[0] == cells[1]
        assert cells[2:4] == ["0.00", "1.00"]


def test_embed(run, fasta, tmp_path):
    assert main(["embed", str(run), str(fasta), "--out", str(tmp_path / "v.npz")]) == 0
    tokens = tmp_path / "t.npz"
    assert main(["embed", str(run), str(fasta), "--pool", "tokens", "--out", str(tokens)]) == 0
    pooled, states = np.load(tmp_path / "v.npz")["vectors"], np.load(tokens)
    for number, text in enumerate(SEQUENCES.values()):
        assert len(states[str(number)]) == len(text)  # one per base
        assert np.allclose(states[str(number)].mean(0), pooled[number], atol=1e-5)


def test_score(run, fasta, tmp_path, capsys):
    """The likelihood of a base is that of its token with [MASK] in place of it."""
    out = tmp_path / "scores.tsv"
    assert main(["score", str(run), "--sequences", str(fasta), "--out", str(out)]) == 0
    rows = [line.split("\t") for line in out.read_text().splitlines()[1:]]
    assert [row[:3] for row in rows] == [["one", "37", "35"], ["two", "9", "9"]]
    model, text = load_pretrained(run), SEQUENCES["two"]
    ids = [2, *(encode_bases(text).astype(int) + 5).tolist(), 3]
    total = 0.0
    for place, id_ in enumerate(ids[1:-1], 1):
        shown = torch.tensor([4 if n == place else i for n, i in enumerate(ids)])
        total += float(_logits(model.model, shown)[place, 5:9].log_softmax(0)[id_ - 5])
    assert float(rows[1][3]) == pytest.approx(total, abs=1e-3)


@torch.no_grad()
def _logits(model, ids_N):
    from cmgems.models.layouts import SequenceLayout

    return model(ids_N, SequenceLayout.of((len(ids_N),)), torch.arange(len(ids_N)))


def test_variants(run, tmp_path, genome):
    assert np.isfinite(score_variant(run, genome, 1_000_000, tmp_path, "--window", "60"))


@pytest.mark.parametrize("protocol", ["few_shot", "probe", "zero_shot"])
def test_evaluate(protocol, run, tmp_path):
    results = evaluate_on_random_dna(run, protocol, tmp_path, "ACGT")
    assert {model["tokenization"] for model in results["models"]} == {"bases"}
    assert len(results["scores"]) == 3 if protocol != "zero_shot" else results["scores"]


def test_export_goes_to_transformers_and_back(run, tmp_path):
    transformers = pytest.importorskip("transformers", reason="wanted: pip install cmgems[peers]")
    folder = tmp_path / "exported"
    assert main(["export", str(run), str(folder)]) == 0
    theirs = transformers.BertForMaskedLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ours = load_pretrained(run)
    text = "ACGTTGCANNacgtac"
    inputs = tokenizer(text.replace("NN", f"{tokenizer.mask_token}N"), return_tensors="pt")
    ids = inputs["input_ids"][0]
    wanted = (encode_bases(text).astype(int) + 5).tolist()
    wanted[8] = tokenizer.mask_token_id
    assert ids[1:-1].tolist() == wanted
    with torch.no_grad():
        logits = theirs(**inputs).logits[0]
    assert torch.allclose(logits, _logits(ours.model, ids.int()), atol=1e-5)
    back = load_pretrained(folder)
    assert back.tokenization == SingleBases()
    weights = back.model.state_dict()
    assert all(torch.equal(weights[name], x) for name, x in ours.model.state_dict().items())
    assert "single bases" in (folder / "README.md").read_text()


def test_plan(capsys):
    assert main(["plan", BASES]) == 0
    assert "512 at most" in capsys.readouterr().out


def test_the_fast_start_is_refused(tiny, capsys):
    assert main(["plan", BASES, *tiny, "model.init=fast_start"]) == 2
    error = capsys.readouterr().err
    assert "model.init: found fast_start, which is made for overlapping k-mers" in error
    assert "wanted model.init bert" in error


def test_windows_may_have_as_many_bases_as_positions_but_two():
    assert load(BASES, ["data.window_length=510", "data.min_window_length=3"])
    with pytest.raises(UserError, match="511 bases are 513 tokens with"):
        load(BASES, ["data.window_length=511"])


def test_a_run_of_kmers_does_not_go_on_with_bases(pretrained_run, run, tiny, tmp_path, capsys):
    """The wrong pairing is one line, whichever way round."""
    kmers = str(EXPERIMENTS / "pretrain/random.yaml")
    for experiment, folder, found in ((BASES, pretrained_run, "kmers"), (kmers, run, "bases")):
        (tmp_path / found).symlink_to(folder)
        settings = [*tiny, f"run.dir={tmp_path / found}", "run.resume=true", "train.max_steps=3"]
        (folder / "results.json").rename(tmp_path / "results.json")
        try:
            assert main(["pretrain", experiment, *settings, "model.init=bert"]) == 2
        finally:
            (tmp_path / "results.json").rename(folder / "results.json")
        error = capsys.readouterr().err
        assert f"data.tokenization: the run in {tmp_path / found} has '{found}'" in error


def test_weights_of_another_tokenization_than_the_config_says(run, tmp_path):
    """A config.yaml that was changed by hand, or a checkpoint that was moved."""
    import shutil

    shutil.copytree(run, tmp_path / "run")
    config = tmp_path / "run/config.yaml"
    config.write_text(config.read_text().replace("tokenization: bases", "tokenization: kmers"))
    with pytest.raises(
        UserError, match=r"found data\.tokenization 'bases', wanted 'kmers'"
    ) as caught:
        load_pretrained(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_base_vocabulary_with_the_config_of_kmers_is_refused(run, tmp_path):
    folder = tmp_path / "exported"
    assert main(["export", str(run), str(folder)]) == 0
    vocabulary = OverlappingKmers(3).vocabulary
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary))
    with pytest.raises(UserError) as caught:
        load_pretrained(folder)
    assert "vocab_size: found 10, but vocab.txt has 69 tokens" in str(caught.value)


@pytest.mark.parametrize("name", ["global_pmi", "genemask", "span", "uniform"])
def test_check_masking(name, capsys):
    assert main(["check-masking", name, "--tokenization", "bases"]) == 0
    assert "FAIL" not in capsys.readouterr().out
