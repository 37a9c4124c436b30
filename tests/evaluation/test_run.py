"""`cmgems evaluate`: the protocols, the same figures again, going on, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.encoders import tiny_config
from helpers.paths import EXPERIMENTS

from cmgems.cli import main
from cmgems.config.loading import load_as
from cmgems.errors import UserError
from cmgems.evaluation import cnn, context, finetune_trials, jobs
from cmgems.evaluation import run as evaluation_module
from cmgems.evaluation.config import Evaluation, load_evaluation
from cmgems.evaluation.finetuning.classifier import export_classifier, load_classifier
from cmgems.evaluation.metrics import score
from cmgems.evaluation.sources import load_sources
from cmgems.pretraining import pretrain
from cmgems.runs.experiment import load
from cmgems.tasks.dataset import from_sequences
from cmgems.tasks.tokens import tokenize
from cmgems.tokenization import OverlappingKmers
from cmgems.utils.files import file_lock

FINETUNE = EXPERIMENTS / "finetune"


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A task of two classes, 40 bases: class 1 has CG in its middle. Its YAML file."""
    folder = tmp_path_factory.mktemp("task")
    generator = np.random.default_rng(0)
    for split, count in (("train", 80), ("dev", 30), ("test", 40)):
        lines = ["sequence,label"]
        for i in range(count):
            bases = generator.choice(list("ACGT"), 40)
            bases[16:24] = list("CGCGCGCG") if i % 2 else list("ATATATAT")
            lines.append(f"{''.join(bases)},{('low', 'high')[i % 2]}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    (folder / "middle.yaml").write_text(
        "classes: [low, high]\ntrain: train.csv\ndev: dev.csv\ntest: test.csv\nmetric: mcc\n"
    )
    return folder / "middle.yaml"


@pytest.fixture
def evaluate(task, pretrained_run, tmp_path, capsys, monkeypatch):
    """Runs an evaluation of the tiny run on the task: (exit code, results, output, errors)."""
    monkeypatch.setattr(cnn, "MAX_EPOCHS", 3)

    def run(*overrides, file="few_shot.yaml", folder=tmp_path / "out", models=pretrained_run):
        given = [f"models=[{models}]", f"tasks.names=[{task}]", f"run.dir={folder}"]
        fixed = ["compute.workers=1", "compute.precision=32-true", "compute.device=cpu"]
        code = main(["evaluate", str(FINETUNE / file), *given, *fixed, *overrides])
        results = folder / "results.json"
        shown = capsys.readouterr()
        found = json.loads(results.read_text()) if results.exists() else None
        return code, found, shown.out, shown.err

    return run


QUICK = ["few_shot.shots=[4,8]", "few_shot.replicates=2", "recipe.epochs=2"]
NO_COUNTS = "baselines=[untrained,one_hot,cnn]"  # those of k-mers take seconds


def figures(found):
    """Everything but how long it took."""
    return [{k: v for k, v in one.items() if k != "seconds"} for one in found["scores"]]


def test_few_shot_with_all_baselines(evaluate, pretrained_run):
    code, found, out, _ = evaluate(*QUICK, "check_leakage=true", "seeds=2")
    assert code == 0
    models = {one["model"] for one in found["scores"]}
    assert models == {str(pretrained_run), "untrained", "kmers", "one_hot", "gc", "cnn"}
    # shots x replicates x (seeds of what has a seed + the others)
    assert len(found["scores"]) == 2 * 2 * (3 * 2 + 3)
    assert all(0 <= one["scores"]["accuracy"] <= 1 for one in found["scores"])
    shown = [(one["shots"], one["model"]) for one in found["summaries"]]
    order = [str(pretrained_run), "untrained", "kmers", "one_hot", "gc", "cnn"]
    assert list(dict.fromkeys(shown)) == [(shots, model) for shots in (4, 8) for model in order]
    one_hot = [s for s in found["summaries"] if s["model"] == "one_hot" and s["shots"] == 8]
    assert next(s["mean"] for s in one_hot if s["metric"] == "accuracy") > 0.9
    assert {c["metric"] for c in found["comparisons"]} == {"mcc"}
    assert len(found["comparisons"]) == 15 * 2  # pairs of six models, two numbers of shots
    assert "one_hot" in out
    assert "95 % interval" in out
    (audit,) = found["audits"].values()
    assert audit["seen"] is not None  # against the DNA that the run was pretrained on
    assert audit["shortcuts"]["position"] == 1.0  # C or G in the middle
    assert {"versions", "git_revision"} <= found.keys()


def test_the_same_figures_again_and_when_interrupted(evaluate, tmp_path, monkeypatch):
    _, whole, _, _ = evaluate(*QUICK, NO_COUNTS)
    _, again, _, _ = evaluate(*QUICK, NO_COUNTS, folder=tmp_path / "again")
    assert figures(again) == figures(whole)
    assert again["trials_run"] == len(whole["scores"])

    run_trials, calls = jobs.run_trials, []

    def third_time_stops(context, batch):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(batch)
        return run_trials(context, batch)

    monkeypatch.setattr(jobs, "run_trials", third_time_stops)
    folder = tmp_path / "stopped"
    code, found, _, err = evaluate(*QUICK, NO_COUNTS, folder=folder)
    assert (code, found) == (130, None)
    assert "interrupted" in err
    monkeypatch.setattr(jobs, "run_trials", run_trials)
    with open(folder / "scores.jsonl", "a") as journal:
        journal.write('{"key": "cut off by a kill')
    _, found, _, _ = evaluate(*QUICK, NO_COUNTS, folder=folder)
    assert figures(found) == figures(whole)
    done = sum(len(batch.trials) for batch in calls)
    assert found["trials_run"] == len(whole["scores"]) - done
    _, found, _, _ = evaluate(*QUICK, NO_COUNTS, folder=folder)
    assert found["trials_run"] == 0
    _, found, _, _ = evaluate(
        *QUICK, NO_COUNTS, "recipe.epochs=1", folder=folder
    )  # another setting
    assert found["trials_run"] == len([s for s in found["scores"] if s["loss"] is not None])


def test_scores_of_another_version_are_refused_in_one_line(evaluate, tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "evaluation.yaml").touch()
    (folder / "scores.jsonl").write_text(
        '{"key": "a", "results": [{"model": "kmers", "task": "t", "shots": 4, "draw": 0}]}\n'
    )
    code, _, _, err = evaluate(*QUICK, "models=[]", "baselines=[one_hot]", folder=folder)
    assert code == 2
    assert "scores.jsonl: line 1: found no scores of this version of cmgems" in err
    assert err.count("\n") == 1


def test_worker_processes_give_the_same_figures(evaluate, tmp_path):
    few = ["few_shot.shots=[4]", "few_shot.replicates=2", "recipe.epochs=1", "baselines=[one_hot]"]
    _, one, _, _ = evaluate(*few)
    _, two, _, _ = evaluate(*few, "compute.workers=2", folder=tmp_path / "two")
    assert figures(one) == figures(two)


def test_full_chooses_on_dev_and_never_hands_test_to_training(evaluate, monkeypatch):
    read, train_trials = context.split, finetune_trials.train_trials
    seen, inside = [], []

    def noting(name, which, root, k):
        if inside:
            seen.append(which)
        return read(name, which, root, k)

    def noted(*args):
        inside.append(True)
        try:
            return train_trials(*args)
        finally:
            inside.clear()

    for module in (context, finetune_trials):
        monkeypatch.setattr(module, "split", noting)
    monkeypatch.setattr(finetune_trials, "train_trials", noted)
    code, found, _, _ = evaluate(
        "recipe.epochs=3", "recipe.learning_rate=1e-3", "baselines=[]", "seeds=2", file="gue.yaml"
    )
    assert code == 0
    assert set(seen) == {"train", "dev"}
    assert len(found["scores"]) == 2
    assert all(1 <= one["chosen"]["epoch"] <= 3 for one in found["scores"])


def test_the_best_epoch_on_dev_is_put_back(task, monkeypatch):
    """For each model its own: of 0.2, 0.8, 0.5 the second epoch, of 0.9, 0.1, 0.9 the first."""
    from cmgems.data_modules.classification import (
        ClassificationDataModule,
        EvaluationData,
        Examples,
        TrainData,
    )
    from cmgems.evaluation.finetuning import best_epoch
    from cmgems.evaluation.finetuning.train import Classifiers, FineTuneConfig, LabelScale
    from cmgems.evaluation.metrics import Scores
    from cmgems.models.encoder import Encoder
    from cmgems.tasks.lookup import find_task

    encoder = Encoder(tiny_config(num_layers=1, hidden_size=8, num_heads=2))
    data = from_sequences(["ACGTACGT", "TTGGACAC"], np.array([0, 1]))
    model = Classifiers([encoder] * 2, FineTuneConfig("cls"), [0, 1])
    examples, labels = (
        Examples(tokenize(data, OverlappingKmers(3), 40)),
        torch.from_numpy(data.labels),
    )
    split = TrainData(examples, labels, np.zeros((2, 1), np.int64), [0, 1])
    module = ClassificationDataModule(split, 1, EvaluationData(examples, labels))
    task_definition = find_task(str(task))
    found = iter([0.2, 0.9, 0.8, 0.1, 0.5, 0.9])
    monkeypatch.setattr(best_epoch, "score", lambda *_: Scores(2, mcc=next(found)))
    best = best_epoch.BestEpoch(model, module, task_definition, LabelScale("binary"), bf16=False)
    for epoch in range(3):
        with torch.no_grad():
            model.head.out.bias[:] = epoch
        best(epoch)
    chosen = best.restore_best()
    assert chosen == [{"epoch": 2, "dev_mcc": 0.8}, {"epoch": 1, "dev_mcc": 0.9}]
    assert model.head.out.bias.tolist() == [[1.0, 1.0], [0.0, 0.0]]


def test_both_strands_are_trained_on_and_predict_together(evaluate, task, tmp_path, monkeypatch):
    trained_on, train = [], finetune_trials.train

    def noted(model, data, *args):
        trained_on.append(data.train)
        return train(model, data, *args)

    monkeypatch.setattr(finetune_trials, "train", noted)
    overrides = ["recipe.epochs=2", "baselines=[]", "save_classifiers=true", "seeds=1"]
    code, found, _, _ = evaluate("classifier.strands=both", *overrides, file="gue.yaml")
    assert code == 0
    from cmgems.tasks import splits
    from cmgems.tasks.lookup import find_task

    examples, targets, index_GN, _ = trained_on[0]
    train_split = splits.read_split(find_task(str(task)), "train")
    reverse = tokenize(train_split.reverse_complement(), OverlappingKmers(6), 512)
    n = len(train_split)
    assert index_GN.tolist() == [list(range(2 * n))]
    assert torch.equal(examples.tokens.ids_NL[n:], reverse.ids_NL)
    assert targets.tolist() == train_split.labels.tolist() * 2

    (folder,) = (tmp_path / "out" / "classifiers").iterdir()
    loaded = load_classifier(folder)
    assert loaded.description["strands"] == "both"
    test = splits.read_split(find_task(str(task)), "test")
    logits = sum(
        loaded.classifier(tokenize(data, OverlappingKmers(6), 512))
        for data in (test, test.reverse_complement())
    )
    wanted = score((logits / 2).numpy(), test.labels, "binary").metrics()
    assert found["scores"][0]["scores"]["auroc"] == pytest.approx(wanted["auroc"], abs=1e-6)
    assert found["scores"][0]["scores"]["ece"] == pytest.approx(wanted["ece"], abs=1e-5)


def test_scores_of_one_strand_are_not_those_of_both(evaluate):
    given = [*QUICK, "few_shot.shots=[4]", "few_shot.replicates=1", "baselines=[kmers,one_hot]"]
    runs = [evaluate(*given, f"classifier.strands={strands}") for strands in ("forward", "both")]
    # Bases at their positions are read on one strand in any case.
    assert [found["trials_run"] for _, found, _, _ in runs] == [3, 2]


def test_kept_classifiers_and_their_hugging_face_folder(evaluate, task, tmp_path):
    transformers = pytest.importorskip("transformers")
    code, found, _, _ = evaluate(
        "recipe.epochs=2", "baselines=[]", "save_classifiers=true", "seeds=1", file="gue.yaml"
    )
    assert code == 0
    (folder,) = (tmp_path / "out" / "classifiers").iterdir()
    loaded = load_classifier(folder)
    from cmgems.tasks import splits
    from cmgems.tasks.lookup import find_task

    test = splits.read_split(find_task(str(task)), "test")
    tokens = tokenize(
        test, OverlappingKmers(6), loaded.classifier.encoder.config.max_position_embeddings
    )
    logits = loaded.classifier(tokens)
    accuracy = float((logits.argmax(1).numpy() == test.labels).mean())
    assert accuracy == pytest.approx(found["scores"][0]["scores"]["accuracy"], abs=1e-6)

    export_classifier(folder, tmp_path / "hf")
    theirs = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "hf").eval()
    with torch.no_grad():
        wanted = theirs(input_ids=tokens.ids_NL.long()).logits
    assert torch.allclose(logits, wanted, atol=1e-5)
    assert theirs.config.id2label == {0: "low", 1: "high"}


@pytest.mark.parametrize("file", ["probe.yaml", "zero_shot.yaml"])
def test_protocols_without_training(evaluate, file):
    code, found, _, _ = evaluate("few_shot.shots=[8]", "few_shot.replicates=2", file=file)
    assert code == 0
    assert all(one["loss"] is None for one in found["scores"])
    if file == "probe.yaml":
        untrained = [s for s in found["scores"] if s["model"] == "untrained"]
        assert all("neighbours_accuracy" in one["chosen"] for one in untrained)


def test_counts_beside_the_states_are_a_row_of_their_own(
    evaluate, pretrained_run, tmp_path, monkeypatch
):
    """Each encoder runs once for both rows; those without counts are what they are alone."""
    passes, embed = [], jobs.embed_sequences

    def noted(*args):
        passes.append(args)
        return embed(*args)

    monkeypatch.setattr(jobs, "embed_sequences", noted)
    monkeypatch.setattr("cmgems.evaluation.linear.baselines.K_CHOICES", (1, 2))  # not the point
    small = ["few_shot.shots=[8]", "few_shot.replicates=2", "baselines=[untrained,kmers]"]
    code, both, _, _ = evaluate(*small, "probe.kmer_counts=true", file="probe.yaml")
    assert code == 0
    name = str(pretrained_run)
    rows = list(dict.fromkeys(one["model"] for one in both["summaries"]))
    assert rows == [name, f"{name} + kmers", "untrained", "untrained + kmers", "kmers"]
    assert len(passes) == 2 * (2 + 1)  # models x (replicates + test)
    _, alone, _, _ = evaluate(*small, file="probe.yaml", folder=tmp_path / "alone")
    of_states = [one for one in figures(both) if not one["model"].endswith("+ kmers")]
    assert of_states == figures(alone)
    beside = [one for one in both["scores"] if one["model"] == f"{name} + kmers"]
    assert all({"k", "strength", "counts_strength"} == one["chosen"].keys() for one in beside)


@pytest.mark.parametrize("finetune", ["frozen", "lora"])
def test_encoders_that_stay(evaluate, finetune):
    more = [f"classifier.finetune={finetune}", "baselines=[]", "classifier.head=mean"]
    code, found, _, _ = evaluate(*QUICK, *more)
    assert code == 0
    assert len(found["scores"]) == 4


@pytest.mark.parametrize("path", sorted(FINETUNE.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_experiments_are_read(path):
    assert isinstance(load_evaluation(path), Evaluation)


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["few_shot.shots=[0]"], "few_shot.shots: found [0.0], wanted different whole numbers"),
        (["few_shot.shots=[50]"], "found 50 shots, wanted at most 40"),
        (["baselines=[kmer]"], "baselines: found 'kmer', wanted names among untrained, kmers"),
        (
            ["few_shot.published=true"],
            "few_shot.published has one replicate; wanted few_shot.replicates=1",
        ),
        (["tasks.names=[prom-cor]"], "found the task 'prom-cor', wanted prom-core"),
        (["tasks.names=[prom-core]"], "tasks.root: found nothing, wanted the folder"),
        (["models=[nowhere]"], "nowhere: no checkpoint there"),
        (["classifier.head=cl"], "classifier.head: found 'cl', wanted one of cls"),
        (["save_classifiers=true"], "save_classifiers: belongs to protocol full"),
        (["models=[]", "baselines=[]"], "models: found none and no baselines"),
        (["protocol=probe", "probe.layers=[9]"], "probe.layers: found 9, wanted -2 to 2"),
        (["probe.kmer_counts=true"], "probe.kmer_counts: belongs to protocol probe"),
    ],
)
def test_refused_in_one_line(evaluate, overrides, wanted):
    code, _, _, err = evaluate(*overrides)
    assert code == 2
    assert wanted in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("test.csv", "sequence,label\nACGTACGTAC,middle\n", "middle"),
        ("test.csv", "seq,label\nACGTACGTAC,low\n", "seq"),
        ("test.csv", "sequence,label\n", "test.csv"),
        ("test.csv", "sequence,label\nACG,low\nACGTACGTA,high\n", "6"),
        (
            "train.csv",
            "sequence,label\nACGTACGTA,low\nACGTTTTTA,low\n",
            "all 2 examples have the label",
        ),
    ],
)
def test_bad_examples_are_refused_in_one_line(evaluate, task, tmp_path, name, content, wanted):
    for path in task.parent.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / name).write_text(content)
    code, _, _, err = evaluate(f"tasks.names=[{tmp_path / 'middle.yaml'}]")
    assert code == 2
    assert wanted in err
    assert err.count("\n") == 1


def test_models_by_pattern(tmp_path):
    for name in ("b", "a", "other"):
        (tmp_path / name).mkdir()
    few = FINETUNE / "few_shot.yaml"
    found = load_evaluation(few, [f"models=[{tmp_path}/?,{tmp_path}/other]"])
    assert found.models == tuple(str(tmp_path / name) for name in ("a", "b", "other"))
    with pytest.raises(UserError, match=r"models: found nothing that matches .*none\*"):
        load_evaluation(few, [f"models=[{tmp_path}/none*]"])


def test_a_folder_that_is_something_else_stays(evaluate, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    code, _, _, err = evaluate(*QUICK)
    assert code == 2
    assert "holds something that is not an evaluation" in err


def test_one_evaluation_at_a_time_in_a_folder(evaluate, tmp_path):
    (tmp_path / "out").mkdir()
    with file_lock(tmp_path / "out/.lock", "in use"):
        (tmp_path / "out/evaluation.yaml").touch()
        code, found, _, errors = evaluate(*QUICK, "baselines=[one_hot]")
    assert (code, found) == (2, None)
    assert errors.endswith("is in use by another process\n")


def test_unknown_bases_and_long_sequences_are_evaluated(evaluate, task, tmp_path):
    """N gives [UNK]; more tokens than positions: the middle counts."""
    for path in task.parent.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    long = "ACGT" * 200
    with open(tmp_path / "test.csv", "a") as handle:
        handle.write(f"{long},low\nNNACGTACNNNNACGTTTACGGT,high\n{'N' * 20},low\n")
    code, found, _, _ = evaluate(
        *QUICK, "baselines=[]", f"tasks.names=[{tmp_path / 'middle.yaml'}]"
    )
    assert code == 0
    assert {one["scores"]["count"] for one in found["scores"]} == {43}


def test_keys_are_read_as_an_evaluation():
    found = load_as(Evaluation, FINETUNE / "splice.yaml")
    assert (found.classifier.head, found.few_shot.replicates) == ("position", 10)
    assert evaluation_module.has_bf16_products("cpu") in (True, False)


def test_an_untrained_encoder_has_the_weights_that_the_first_run_began_from(pretrained_run):
    one = Evaluation(models=(str(pretrained_run),), baselines=("untrained",))
    asked = replace(one, untrained=replace(one.untrained, init="bert"))
    of_no_run = replace(one, models=())
    found = [load_sources(each)[-1].init for each in (one, asked, of_no_run)]
    assert found == ["fast_start", "bert", "bert"]


def test_an_encoder_of_other_blocks_goes_through_everything(evaluate, tiny, tmp_path, capsys):
    """Few-shot one at a time and side by side, the untrained one of its kind, a saved classifier:
    which transformers cannot have, so its export is refused in one line."""
    blocks = ["model.norm=pre", "model.position_embedding=alibi", "model.mlp=geglu"]
    blocks += ["model.biases=false", "model.conv_stem=5", "model.init=bert", "train.max_steps=3"]
    run = tmp_path / "run"
    pretrain(load(EXPERIMENTS / "pretrain/random.yaml", [*tiny, *blocks, f"run.dir={run}"]))
    results = []
    for models_per_batch in (1, 2):
        own = [*QUICK, "baselines=[untrained]", f"compute.models_per_batch={models_per_batch}"]
        code, found, _, _ = evaluate(*own, folder=tmp_path / f"{models_per_batch}", models=run)
        assert code == 0
        results.append([one["scores"]["accuracy"] for one in figures(found)])
    assert results[0] == pytest.approx(results[1])
    full = ["save_classifiers=true", "recipe.epochs=1", "baselines=[]", "seeds=1"]
    code, _, _, _ = evaluate(*full, file="gue.yaml", models=run)
    assert code == 0
    saved = next((tmp_path / "out/classifiers").iterdir())
    assert load_classifier(saved).classifier.encoder.config.conv_stem == 5
    assert main(["export", str(saved), str(tmp_path / "hf")]) == 2
    error = capsys.readouterr().err
    assert "wanted one that BertForSequenceClassification computes" in error
    assert len(error.strip().splitlines()) == 1
