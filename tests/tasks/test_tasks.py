"""The registry, splits and few-shot replicates; custom tasks; the real files where given."""

import os

import numpy as np
import pytest
from helpers.labelled_samples import REAL, csv_table, few_shot_folder, kmer_table, random_sequences
from helpers.paths import ROOT

from cmgems.errors import UserError
from cmgems.tasks.dataset import canonical_keys, from_sequences
from cmgems.tasks.lookup import find_task, find_tasks
from cmgems.tasks.published import TASKS, task_table
from cmgems.tasks.splits import (
    TooFewExamples,
    few_shot,
    few_shot_pool,
    read_published_examples,
    read_split,
)
from cmgems.tasks.synthetic import PARTS, replace_stretches
from cmgems.tasks.task import PublishedRecipe, metric_names

REAL_FILES = os.environ.get("CMGEMS_DATA", "")


def sequences(data):
    return [data.text(i) for i in range(len(data))]


def groups():
    found = {}
    for one in TASKS.values():
        found.setdefault(one.group, []).append(one)
    return found


def test_the_registry_has_what_the_benchmarks_have():
    found = groups()
    counts = {group: len(members) for group, members in found.items()}
    assert counts == {
        "few-shot": 5,
        "GUE": 28,
        "Genomic Benchmarks": 9,
        "Nucleotide Transformer": 18,
        "Nucleotide Transformer, revised": 18,
        "sites": 3,
        "embedded": 4,
    }
    assert {one.metric for one in found["GUE"]} == {"mcc", "f1"}
    assert [one.name for one in found["GUE"] if one.metric == "f1"] == ["gue/virus/covid"]
    assert len(find_task("gue/virus/covid").classes) == 9
    recipe = PublishedRecipe(epochs=10, learning_rate=3e-5, batch_size=32, warmup_steps=50)
    assert find_task("gue/prom/prom_core_tata").recipe == recipe
    assert find_task("splice-40").shots == (100, 500, 1000, 5000)
    categories = {name: one.category for name, one in TASKS.items()}
    assert all(categories.values())
    assert [n for n, c in categories.items() if c == "enhancers" and n.startswith("gb/")] == [
        "gb/drosophila_enhancers_stark",
        "gb/dummy_mouse_enhancers_ensembl",
        "gb/human_enhancers_cohn",
        "gb/human_enhancers_ensembl",
    ]
    for one in TASKS.values():
        assert one.metric in metric_names(one.kind), one.name
        assert (one.kind == "binary") == (len(one.classes) == 2), one.name
        assert {"train", "test"} <= set(one.splits), one.name


def test_names_and_patterns():
    assert [one.name for one in find_tasks("gue/tf/*", "prom-core", "gue/tf/0")] == [
        *(f"gue/tf/{n}" for n in range(5)),
        "prom-core",
    ]
    with pytest.raises(UserError) as caught:
        find_task("prom_core")
    assert str(caught.value).startswith("found the task 'prom_core', wanted prom-core, ")
    with pytest.raises(UserError, match=r"found no task like 'gue/x\*', wanted "):
        find_tasks("gue/x*")


def test_the_table_in_the_docs_is_the_registry():
    assert task_table() in (ROOT / "docs/tasks.md").read_text()


def test_few_shot_replicates_are_nested_balanced_and_seeded(tmp_path):
    few_shot_folder(tmp_path, "prom-core", (10, 50, 100, 500, 1000), 1, 2, 70)
    prom = find_task("prom-core")
    pool = few_shot_pool(prom, tmp_path)
    assert len(pool) == 2 * (10 + 50 + 100 + 500 + 1000)
    samples = {shots: few_shot(prom, shots, 3, tmp_path) for shots in (10, 50, 1000)}
    for shots, data in samples.items():
        assert np.bincount(data.labels).tolist() == [shots, shots]
        assert len(set(sequences(data))) == 2 * shots
        assert set(sequences(data)) <= set(sequences(pool))
    assert set(sequences(samples[10])) < set(sequences(samples[50])) < set(sequences(samples[1000]))
    again = few_shot(prom, 50, 3, tmp_path)
    assert sequences(again) == sequences(samples[50])
    for other in (few_shot(prom, 50, 4, tmp_path), few_shot(prom, 50, 3, tmp_path, seed=1)):
        assert len(set(sequences(other)) & set(sequences(samples[50]))) < 25
    with pytest.raises(TooFewExamples) as caught:
        few_shot(prom, 1700, 0, tmp_path)
    assert str(caught.value) == (
        "task prom-core: found 1700 shots, wanted at most 1660, the examples of class 0 that are "
        "not in the test split"
    )


def test_each_example_is_drawn_equally_often(tmp_path):
    few_shot_folder(tmp_path, "prom-core", (10, 50, 100, 500, 1000), 1, 2, 20)
    prom = find_task("prom-core")
    place = {text: i for i, text in enumerate(sequences(few_shot_pool(prom, tmp_path)))}
    counts = np.zeros(len(place))
    for replicate in range(100):
        for text in sequences(few_shot(prom, 200, replicate, tmp_path)):
            counts[place[text]] += 1
    # Each is in a replicate with probability p; the mean of the squares below has deviation 0.025.
    p = 200 / 1660
    squares = (counts - 100 * p) ** 2 / (100 * p * (1 - p))
    assert abs(squares.mean() - 1) < 0.12


def test_published_examples_and_those_of_the_test_split(tmp_path):
    folder = few_shot_folder(tmp_path, "splice-40", (10, 50, 100, 500), 10, 3, 40)
    splice = find_task("splice-40")
    published = few_shot(splice, 500, None, tmp_path)  # of train_50: a tenth
    assert np.bincount(published.labels).tolist() == [500, 500, 500]
    with pytest.raises(TooFewExamples) as caught:
        few_shot(splice, 50, None, tmp_path)
    assert str(caught.value) == (
        "task splice-40: found 50 shots, published are 100, 500, 1000, 5000"
    )
    # A test sequence, and the reverse complement of another, among the training examples: they
    # stay in what is published, and are never drawn.
    test = read_split(splice, "test", tmp_path)
    other = test.reverse_complement()
    leaked = [(test.text(0), "0"), (other.text(1), "1")]
    with open(folder / "train_500.tsv", "a") as handle:
        handle.write(kmer_table(leaked, quoted=True).split("\n", 1)[1])
    train = read_published_examples(splice, tmp_path)
    assert {leaked[0][0], leaked[1][0]} <= set(sequences(train))
    assert len(train) == 3 * 10 * (10 + 50 + 100 + 500) + 2
    for data in (few_shot_pool(splice, tmp_path), read_split(splice, "train", tmp_path)):
        assert not set(canonical_keys(data)) & set(canonical_keys(test))


def test_a_task_without_a_test_file_holds_examples_out(tmp_path):
    folder = few_shot_folder(tmp_path, "cohn-enh", (10, 50, 100, 500), 1, 2, 60)
    (folder / "test.tsv").unlink()
    # half of the smallest file stands in the largest one too
    small = (folder / "train_10.tsv").read_text().split("\n")
    with open(folder / "train_500.tsv", "a") as handle:
        handle.write("\n".join(small[1:11]) + "\n")
    cohn = find_task("cohn-enh")
    test, train = read_split(cohn, "test", tmp_path), read_split(cohn, "train", tmp_path)
    assert np.bincount(test.labels).tolist() == [140, 140]
    assert not set(canonical_keys(train)) & set(canonical_keys(test))
    smaller = [few_shot(cohn, n, None, tmp_path) for n in (10, 50, 100)]
    for data in (*smaller, few_shot(cohn, 100, 0, tmp_path)):
        assert not set(canonical_keys(data)) & set(canonical_keys(test))
    assert len(train) + len(test) == 2 * (10 + 50 + 100 + 500)
    assert sequences(read_split(cohn, "test", tmp_path)) == sequences(test)
    assert not set(canonical_keys(read_published_examples(cohn, tmp_path))) & set(
        canonical_keys(test)
    )
    with pytest.raises(UserError, match="500 shots has the test split held out of it"):
        few_shot(cohn, 500, None, tmp_path)


def test_a_file_that_changed_is_read_again(tmp_path):
    folder = few_shot_folder(tmp_path, "prom-core", (10, 50, 100, 500, 1000), 1, 2, 30)
    prom = find_task("prom-core")
    before = len(few_shot_pool(prom, tmp_path))
    with open(folder / "train_10.tsv", "a") as handle:
        handle.write(kmer_table(REAL).split("\n", 1)[1])
    assert len(few_shot_pool(prom, tmp_path)) == before + len(REAL)


def test_layouts_of_the_publishers_are_found(tmp_path):
    for split in ("train", "dev", "test"):
        folder = tmp_path / "GUE/tf/3"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{split}.csv").write_text(csv_table(REAL))
    assert sequences(read_split(find_task("gue/tf/3"), "dev", tmp_path)) == [s for s, _ in REAL]
    with pytest.raises(UserError) as caught:
        read_split(find_task("gue/tf/4"), "dev", tmp_path)
    assert str(caught.value).startswith(
        f"{tmp_path}/gue/tf/4/dev.csv: does not exist, wanted by task gue/tf/4; it comes from GUE"
    )
    with pytest.raises(UserError, match=r"^tasks\.root: found nothing, wanted the folder with"):
        read_split(find_task("gue/tf/4"), "dev")
    with pytest.raises(UserError, match="task prom-core: found no dev split, it has train, test"):
        read_split(find_task("prom-core"), "dev", tmp_path)


def test_dev_is_held_out_of_train_where_there_is_none(tmp_path):
    folder = tmp_path / "nt/enhancers"
    folder.mkdir(parents=True)
    found = random_sequences(300, 50)
    text = "".join(f">s{i}|{i % 3 // 2}\n{s}\n" for i, s in enumerate(found))
    (folder / "train.fna").write_text(text)
    (folder / "test.fna").write_text(">t|0\nACGT\n>u|1\nACGA\n")
    enhancers = find_task("nt/enhancers")
    assert enhancers.splits == ("train", "dev", "test")
    train, dev = read_split(enhancers, "train", tmp_path), read_split(enhancers, "dev", tmp_path)
    assert np.bincount(dev.labels).tolist() == [20, 10]
    assert sorted(sequences(train) + sequences(dev)) == sorted(found)


def test_copies_of_a_sequence_are_held_out_together(tmp_path):
    other = from_sequences([s for s, _ in REAL], np.zeros(5)).reverse_complement()
    copies = [(other.text(i), label) for i, (_, label) in enumerate(REAL)]
    mine = find_task(own(tmp_path))
    (tmp_path / "train.csv").write_text(csv_table([*REAL, *copies, *REAL]))
    train, dev = read_split(mine, "train"), read_split(mine, "dev")
    assert not set(canonical_keys(train)) & set(canonical_keys(dev))
    assert len(train) + len(dev) == 15
    (tmp_path / "train.csv").write_text(csv_table(REAL[2:4]))
    with pytest.raises(UserError) as caught:
        read_split(mine, "dev")
    assert str(caught.value) == (
        "task mine: 0.4 of 1 examples of class 0 is none, wanted more examples or a larger "
        "dev_fraction"
    )


def test_silencers_and_their_negatives(tmp_path):
    (tmp_path / "silencer").mkdir()
    lengths = [300, 301, 200, 199, 19] + [220] * 45
    found = [random_sequences(1, n, seed=i)[0] for i, n in enumerate(lengths)]
    fasta = tmp_path / "silencer/High_throughput_Homo_sapiens.fa"
    fasta.write_text("".join(f">s{i}\n{s}\n" for i, s in enumerate(found)))
    silencer = find_task("silencer")
    train, test = read_split(silencer, "train", tmp_path), read_split(silencer, "test", tmp_path)
    assert len(train) + len(test) == 2 * 48  # without the one too long and the one too short
    assert len(test) == 2 * 5
    # a negative is on the side of its positive
    assert not set(train.names) & set(test.names)
    for data in (train, test):
        assert data.labels.tolist() == [1, 0] * (len(data) // 2)
        for i in range(0, len(data), 2):
            positive, negative = data.sequence(i), data.sequence(i + 1)
            assert data.text(i) == found[int(data.names[i][1:])]
            assert len(positive) == len(negative)
            assert 0.15 < (positive != negative).mean() < 0.6
    again = read_split(silencer, "train", tmp_path)
    assert sequences(again) == sequences(train)


def test_how_much_of_a_silencer_is_replaced():
    """12 stretches of a 20th at uniform places: a base inside stays with about 0.95 ** 12, and is
    drawn again as itself with 1/4."""
    generator = np.random.Generator(np.random.Philox(key=5))
    codes = np.zeros(200, np.uint8)
    changed = np.mean([replace_stretches(codes, generator) != 0 for _ in range(2000)], axis=0)
    size = 200 // PARTS
    inside = changed[size:-size]
    assert abs(inside.mean() - 0.75 * (1 - (1 - size / (200 - size)) ** 12)) < 0.01


def test_shuffled_needs_no_files_and_has_disjoint_splits():
    shuffled = find_task("shuffled")
    splits = {split: read_split(shuffled, split) for split in shuffled.splits}
    assert list(splits) == ["train", "dev", "test"]
    seen = set()
    for data in splits.values():
        assert data.labels.tolist() == [1, 0] * (len(data) // 2)
        assert set(data.lengths.tolist()) == {200}
        found = set(canonical_keys(data))
        assert not seen & found
        seen |= found
    human, copy = splits["test"].sequence(0), splits["test"].sequence(1)
    assert np.bincount(human[:-1] * 4 + human[1:]).tolist() == (
        np.bincount(copy[:-1] * 4 + copy[1:]).tolist()
    )


def test_the_test_windows_of_shuffled_were_never_pretrained_on(genome):
    from cmgems.config.schema import Experiment
    from cmgems.data_modules.pretraining import GenomeDataModule
    from cmgems.tasks.synthetic import _window_starts

    spans = GenomeDataModule(Experiment(), genome).train_spans
    starts = _window_starts(genome.codes, "test")
    before = np.searchsorted(spans.start, starts + 199, side="right") - 1
    assert len(starts) == 1000
    assert (spans.end[before] <= starts).all()


OWN = """\
classes: ["0", "1"]
train: train.csv
test: [test.csv]
dev_fraction: 0.4
source: a few lines of GUE
"""


def own(tmp_path, text=OWN):
    (tmp_path / "train.csv").write_text(csv_table(REAL))
    (tmp_path / "test.csv").write_text(csv_table(REAL[2:]))
    (tmp_path / "mine.yaml").write_text(text)
    return str(tmp_path / "mine.yaml")


def test_a_custom_task(tmp_path):
    mine = find_task(own(tmp_path))
    assert (mine.name, mine.kind, mine.metric) == ("mine", "binary", "mcc")
    assert mine.splits == ("train", "dev", "test")
    assert len(read_split(mine, "train")) == 3
    assert len(read_split(mine, "dev", "/elsewhere")) == 2  # relative to the file of the task
    assert len(read_split(mine, "test")) == 3
    assert [found.name for found in find_tasks("shuffled", own(tmp_path))] == ["shuffled", "mine"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (OWN.replace('["0", "1"]', '["0"]'), "classes: found 1, kind multiclass wants two or more"),
        (OWN.replace('"1"]', '"0"]'), "classes: a label is listed twice"),
        (OWN + "metric: spearman\n", "metric: found 'spearman', wanted one of mcc, accuracy"),
        (OWN.replace("train: train.csv\n", ""), "train: found no file"),
        (OWN + "format: fasta_table\n", "train: found 1 files, format fasta_table wants 2"),
        (OWN + "kind: regression\n", "classes: found 2, kind regression wants none"),
        (OWN + "label: y\n", "label: no such key"),
    ],
)
def test_what_is_wrong_with_a_task_file(tmp_path, text, wanted):
    with pytest.raises(UserError) as caught:
        find_task(own(tmp_path, text))
    line = str(caught.value).split("\n")[0]
    assert line.startswith(f"{tmp_path}/mine.yaml:")
    assert wanted in line
    with pytest.raises(UserError, match="no such file"):
        find_task(str(tmp_path / "absent.yaml"))


@pytest.mark.skipif(not REAL_FILES, reason="CMGEMS_DATA names no folder with the published files")
def test_the_published_files():
    sizes = {
        "prom-core": (3260, 5920),
        "splice-40": (16746, 3000),
        "gue/prom/prom_core_all": (47356, 5920),
        "gue/tf/0": (32378, 1000),
        "gue/mouse/0": (6478, 810),
    }
    for name, (train, test) in sizes.items():
        one = find_task(name)
        assert len(read_split(one, "train", REAL_FILES)) == train
        assert len(read_split(one, "test", REAL_FILES)) == test
        assert set(read_split(one, "test", REAL_FILES).lengths.tolist()) == {one.length}
    for name in ("prom-300", "cohn-enh"):
        assert len(read_split(find_task(name), "test", REAL_FILES)) > 250
