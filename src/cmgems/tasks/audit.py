"""Why a score may be too good: test sequences that were seen, classes that a number gives away."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.tree import DecisionTreeClassifier

from cmgems.genome.spans import Spans
from cmgems.tasks.dataset import LabelledSequences, canonical_keys
from cmgems.tasks.duplicates import containment, find_duplicates
from cmgems.tasks.homologs import find_homologs
from cmgems.tasks.shortcuts import Shortcuts, find_shortcuts
from cmgems.utils.text_table import text_table

MIN_SEEN_FRACTION = 0.9  # of the k-mers of a sequence that was seen in pretraining


class LengthRange(NamedTuple):
    """Bases of the sequences of a split."""

    min: int
    median: int
    max: int


@dataclass(frozen=True)
class Audit:
    """Counts and fractions of one task; counts are of test sequences unless they say otherwise."""

    train: int  # sequences
    test: int
    exact: int  # with an identical training sequence
    reverse: int  # with the reverse complement of a training sequence, and no identical one
    near: int  # with a near duplicate among the training sequences, and none of the above
    k: int  # of the k-mers of near duplicates
    homologs: int | None  # that MMseqs2 aligns with a training sequence; None: not installed
    conflicts: int  # exact or reverse duplicates that have another label in training
    repeated_in_train: int  # training sequences that came before, on either strand
    repeated_in_test: int
    class_fractions: dict[str, tuple[float, float]]  # in train and in test, by class
    lengths: dict[str, LengthRange]  # of train and test
    length_accuracy: float | None  # of predicting the class by length alone, on the test split
    majority: float | None  # accuracy of always predicting the commonest class of training
    shortcuts: Shortcuts | None  # what single numbers give away; None for a regression
    seen: int | None = (
        None  # in the pretraining spans, on either strand (MIN_SEEN_FRACTION of its k-mers)
    )


def audit_splits(
    train: LabelledSequences, test: LabelledSequences, classes: tuple[str, ...]
) -> Audit:
    """Compare a test split with training examples.

    Parameters
    ----------
    train, test : the two splits
    classes : names of the classes; empty for regression
    """
    duplicate = find_duplicates(train, test)
    homologs = find_homologs(train, test)
    one_label = len(classes) > 0 and train.labels.ndim == 1
    train_keys, test_keys = canonical_keys(train), canonical_keys(test)
    return Audit(
        train=len(train),
        test=len(test),
        exact=int(duplicate.exact.sum()),
        reverse=int(duplicate.reverse.sum()),
        near=int(duplicate.near.sum()),
        k=duplicate.k,
        homologs=None if homologs is None else int(homologs.sum()),
        conflicts=_conflicts(train, test, train_keys, test_keys),
        repeated_in_train=len(train_keys) - len(set(train_keys)),
        repeated_in_test=len(test_keys) - len(set(test_keys)),
        class_fractions=_class_fractions(train, test, classes),
        lengths={name: _length_range(data) for name, data in (("train", train), ("test", test))},
        length_accuracy=_accuracy(_small_tree(), train, test) if one_label else None,
        majority=_accuracy(DummyClassifier(), train, test) if one_label else None,
        shortcuts=find_shortcuts(train, test, len(classes)),
    )


def count_pretraining_overlap(
    audit: Audit, codes: np.ndarray, spans: Spans, test: LabelledSequences
) -> Audit:
    """The audit, with a count of the test sequences that are in the DNA of pretraining.

    Parameters
    ----------
    codes : uint8, `Genome.codes`
    spans : those that were pretrained on, `GenomeDataModule.train_spans`
    """
    return replace(audit, seen=int((containment(codes, spans, test) >= MIN_SEEN_FRACTION).sum()))


def _conflicts(
    train: LabelledSequences,
    test: LabelledSequences,
    train_keys: list[bytes],
    test_keys: list[bytes],
) -> int:
    labels: dict[bytes, set[bytes]] = {}
    for key, label in zip(train_keys, train.labels, strict=True):
        labels.setdefault(key, set()).add(label.tobytes())
    return sum(
        key in labels and label.tobytes() not in labels[key]
        for key, label in zip(test_keys, test.labels, strict=True)
    )


def _class_fractions(
    train: LabelledSequences, test: LabelledSequences, classes: tuple[str, ...]
) -> dict[str, tuple[float, float]]:
    def fraction(data: LabelledSequences, number: int) -> float:
        labels = data.labels
        return float((labels == number).mean() if labels.ndim == 1 else labels[:, number].mean())

    return {name: (fraction(train, i), fraction(test, i)) for i, name in enumerate(classes)}


def _length_range(data: LabelledSequences) -> LengthRange:
    lengths = data.lengths
    return LengthRange(int(lengths.min()), int(np.median(lengths)), int(lengths.max()))


def _small_tree() -> DecisionTreeClassifier:
    return DecisionTreeClassifier(max_leaf_nodes=8, min_samples_leaf=5, random_state=0)


def _accuracy(model: ClassifierMixin, train: LabelledSequences, test: LabelledSequences) -> float:
    """Accuracy on the test split of a model that sees the lengths alone."""
    model.fit(train.lengths[:, None], train.labels)
    return float(model.score(test.lengths[:, None], test.labels))


def audit_table(audit: Audit) -> str:
    """The audit as text, one line per count."""

    def of_test(count: int) -> str:
        return f"{count:,} of {audit.test:,} ({100 * count / audit.test:.2f} %)"

    lines = [
        ("sequences", f"{audit.train:,} train, {audit.test:,} test"),
        ("test identical to train", of_test(audit.exact)),
        ("reverse complement in train", of_test(audit.reverse)),
        (f"near duplicate in train ({audit.k}-mers)", of_test(audit.near)),
        ("of these with another label", f"{audit.conflicts:,}"),
        (
            "homolog of train (MMseqs2)",
            "mmseqs is not installed" if audit.homologs is None else of_test(audit.homologs),
        ),
        (
            "repeated within a split",
            f"{audit.repeated_in_train:,} train, {audit.repeated_in_test:,} test",
        ),
        *(
            (f"class {name}", f"{a:.3f} train, {b:.3f} test")
            for name, (a, b) in audit.class_fractions.items()
        ),
        *(
            (f"bases, {split}", f"{bases.min} to {bases.max}, median {bases.median}")
            for split, bases in audit.lengths.items()
        ),
    ]
    if audit.majority is not None:
        lines.append(("accuracy of the commonest class", f"{audit.majority:.4f}"))
        lines.append(("accuracy by length alone", f"{audit.length_accuracy:.4f}"))
    if audit.shortcuts is not None:
        found = audit.shortcuts
        lines += [
            ("AUROC of GC content alone", f"{found.gc:.4f}"),
            ("AUROC of length alone", f"{found.length:.4f}"),
            (
                "AUROC of one position alone",
                f"{found.position:.4f} ({found.where} from the middle)",
            ),
        ]
    if audit.seen is not None:
        lines.append(("test in the pretraining DNA", of_test(audit.seen)))
    return text_table(lines, indent="  ") + "\n"
