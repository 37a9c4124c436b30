"""An evaluation: every key, its default and range. `cmgems evaluate --help` shows them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from glob import glob
from pathlib import Path

from cmgems.config.encoders import INITS, PRESETS
from cmgems.config.loading import load_as
from cmgems.config.options import option
from cmgems.config.shipped import experiment_file
from cmgems.errors import UserError

HEAD_NAMES = ("cls", "mean", "max", "mean_max", "attention", "position")
UNTRAINED = "untrained"
BASELINES = (UNTRAINED, "kmers", "one_hot", "gc", "cnn")


@dataclass(frozen=True)
class Run:
    dir: str = option(
        "",
        "folder of the results, default evaluations/NAME; what is done there is not computed again",
    )


@dataclass(frozen=True)
class Tasks:
    names: tuple[str, ...] = option(
        None,
        "of the registry (docs/tasks.md; * and ? as in a shell), or YAML files of custom tasks",
        factory=lambda: ("shuffled",),
    )
    root: str = option(
        "", "folder with the published files of the tasks; empty: that of `cmgems data get`"
    )
    genome: str = option("", "genome of the tasks `sites/*`: a sequence file or a store")


@dataclass(frozen=True)
class FewShot:
    shots: tuple[float, ...] = option(
        None, "training examples per class", factory=lambda: (10.0, 50.0, 100.0, 500.0, 1000.0)
    )
    replicates: int = option(
        10,
        "random samples of the examples, nested: the 10 are among the 50",
        low=1,
        high=1_000,
        was="draws",
    )
    published: bool = option(False, "use the publishers' examples instead, one replicate")


@dataclass(frozen=True)
class Classifier:
    head: str = option("cls", "what reads the hidden states", choices=HEAD_NAMES)
    finetune: str = option(
        "full",
        "what is trained: everything, the head alone, or the head and low-rank adapters",
        choices=("full", "frozen", "lora"),
        was="body",
    )
    rank: int = option(8, "of the adapters (finetune lora)", low=1, high=4_096)
    strands: str = option(
        "forward",
        "both: trained on each sequence and its reverse complement, predicts the mean of both, and "
        "k-mers are counted on both; for labels that do not depend on the strand",
        choices=("forward", "both"),
    )

    @property
    def num_strands(self) -> int:
        return 2 if self.strands == "both" else 1


@dataclass(frozen=True)
class RecipeOptions:
    """What is not given is as published for this number of examples, or for the task."""

    learning_rate: float = option(0.0, "peak learning rate; 0: as published", low=0.0, was="rate")
    epochs: int = option(0, "0: as published", low=0, high=10**5)
    batch_size: int = option(
        0, "sequences per step; 0: as published", low=0, high=10**6, was="batch"
    )
    max_steps: int = option(
        0, "limit of the steps of a training; 0: as published", low=0, high=10**9
    )
    dropout: float = option(-1.0, "-1: as published", low=-1.0, high=0.9)
    weight_decay: float = option(-1.0, "on matrices; -1: as published", low=-1.0)


@dataclass(frozen=True)
class Probe:
    pool: str = option(
        "mean_max",
        "how the hidden states of a sequence become one vector; mean_max: both, side by side; "
        "middle: those of the token in the middle, for what is known to be there",
        choices=("mean", "cls", "max", "mean_max", "middle"),
    )
    layers: tuple[int, ...] = option(
        None,
        "whose hidden states are read, side by side; 0: the embeddings, 1 the first layer, ..., "
        "-1 the last; none: all layers",
        factory=tuple,
        was="layer",
    )
    kmer_counts: bool = option(
        False, "also a model of k-mer counts beside the hidden states, in a row of its own"
    )


@dataclass(frozen=True)
class Untrained:
    """The encoder without pretraining, where no pretrained model gives its sizes."""

    preset: str = option("small", "its sizes", choices=tuple(PRESETS))
    tokenization: str = option(
        "kmers", "what a token is", choices=("kmers", "bases", "nonoverlapping")
    )
    k: int = option(6, "bases of a k-mer", choices=(3, 4, 5, 6))
    init: str = option(
        "auto",
        "its weights; auto: as those of the first model began, bert where that is not known",
        choices=("auto", *INITS),
    )


@dataclass(frozen=True)
class Compute:
    device: str = option("auto", "a CUDA GPU where there is one", choices=("auto", "cpu", "cuda"))
    precision: str = option(
        "auto",
        "of matrix products; auto: bf16 on GPUs and on CPUs that multiply in it",
        choices=("auto", "32-true", "bf16"),
    )
    workers: int = option(
        0, "processes on the CPU, one thread each; 0: one per core", low=0, high=1_024
    )
    models_per_batch: int = option(
        0,
        "models trained side by side; 0: as suits device and size",
        low=0,
        high=1_024,
        was="together",
    )


@dataclass(frozen=True)
class Evaluation:
    name: str = option("", "of the evaluation; default: the file's")
    models: tuple[str, ...] = option(
        None,
        "run folders, checkpoints or Hugging Face folders (* and ? as in a shell); none: baselines "
        "alone",
        factory=tuple,
    )
    protocol: str = option(
        "few_shot",
        "few_shot: the last epoch counts; full: train on train, choose on dev, test once; probe: "
        "linear models and neighbours on frozen hidden states; zero_shot: likelihood, nothing is "
        "trained",
        choices=("few_shot", "full", "probe", "zero_shot"),
    )
    seeds: int = option(1, "trainings of each model on each replicate", low=1, high=1_000)
    baselines: tuple[str, ...] = option(
        None,
        f"what every table is compared with: {', '.join(BASELINES)}",
        factory=lambda: BASELINES,
    )
    check_leakage: bool = option(
        False,
        "look for duplicates between train, test and pretraining, for homologs where MMseqs2 is "
        "installed, and for classes that GC content, length or one position give away",
        was="audit",
    )
    save_classifiers: bool = option(
        False, "save the classifiers that were tested (protocol full)", was="keep"
    )
    run: Run = field(default_factory=Run)
    tasks: Tasks = field(default_factory=Tasks)
    few_shot: FewShot = field(default_factory=FewShot)
    classifier: Classifier = field(default_factory=Classifier)
    recipe: RecipeOptions = field(default_factory=RecipeOptions)
    probe: Probe = field(default_factory=Probe)
    untrained: Untrained = field(default_factory=Untrained)
    compute: Compute = field(default_factory=Compute)


def broken_rules(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """(key, message) of each rule that an evaluation breaks."""
    shots = evaluation.few_shot.shots
    if any(n < 1 or not n.is_integer() for n in shots) or len(set(shots)) < len(shots):
        yield (
            "few_shot.shots",
            f"few_shot.shots: found {list(shots)}, wanted different whole numbers of at least 1",
        )
    if not shots and evaluation.protocol == "few_shot":
        yield "few_shot.shots", "few_shot.shots: found none, wanted at least one number"
    for name in evaluation.baselines:
        if name not in BASELINES:
            yield (
                "baselines",
                f"baselines: found {name!r}, wanted names among {', '.join(BASELINES)}",
            )
    if len(set(evaluation.models)) < len(evaluation.models):
        yield "models", "models: a model is listed twice"
    if not evaluation.models and not evaluation.baselines:
        yield "models", "models: found none and no baselines, wanted something to evaluate"
    if evaluation.few_shot.published and evaluation.few_shot.replicates > 1:
        yield (
            "few_shot.replicates",
            f"few_shot.replicates: found {evaluation.few_shot.replicates}, but few_shot.published "
            f"has one replicate; wanted few_shot.replicates=1",
        )
    if evaluation.probe.kmer_counts and evaluation.protocol != "probe":
        yield (
            "probe.kmer_counts",
            f"probe.kmer_counts: belongs to protocol probe, found {evaluation.protocol}",
        )
    if evaluation.save_classifiers and evaluation.protocol != "full":
        yield (
            "save_classifiers",
            f"save_classifiers: belongs to protocol full, found {evaluation.protocol}",
        )


def load_evaluation(path: str | Path, overrides: Sequence[str] = ()) -> Evaluation:
    """Read and check an evaluation.

    Raises
    ------
    UserError
        With one line for each problem.
    """
    path = experiment_file(path, "finetune")
    evaluation = load_as(Evaluation, path, overrides, broken_rules)
    name = evaluation.name or path.stem
    models = tuple(model for pattern in evaluation.models for model in _expand(pattern))
    run = Run(evaluation.run.dir or f"evaluations/{name}")
    return replace(evaluation, name=name, models=models, run=run)


def _expand(pattern: str) -> list[str]:
    """The paths that match a pattern; one without * and ? is a path itself."""
    if not any(sign in pattern for sign in "*?"):
        return [pattern]
    paths = sorted(glob(pattern))
    if not paths:
        raise UserError(f"models: found nothing that matches {pattern}, wanted at least one model")
    return paths
