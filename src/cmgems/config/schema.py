"""An experiment: every key, its default, unit and range. `load` is in `cmgems.runs.experiment`.

The help texts (`cmgems pretrain --help`), the error messages and the tests read these dataclasses.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any


def option(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Iterable[str | int] = (),
    factory: Callable[[], Any] | None = None,
    was: str = "",
) -> Any:
    """A documented config key; `low` and `high` are inclusive, `was` is its former name."""
    metadata = {"text": text, "low": low, "high": high, "choices": tuple(choices), "was": was}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Run:
    dir: str = option("", "folder of the run; default runs/NAME")
    resume: bool = option(False, "go on where the run in run.dir stopped")


@dataclass(frozen=True)
class Data:
    genome: str = option(
        "sample", "`sample` (4 Mb of human chromosome 20), a genome store, or FASTA, 2bit, GenBank"
    )
    tokenization: str = option(
        "kmers",
        "what a token is: `kmers`, overlapping words of data.k bases, or single `bases`",
        choices=("kmers", "bases"),
    )
    k: int = option(
        6, "bases of the k-mers that PMI ranks: of a token, or around a base", choices=(3, 4, 5, 6)
    )
    window_length: int = option(510, "bases of a full window", low=16, high=100_000, was="window")
    min_window_length: int = option(6, "bases of the shortest window", low=3, was="shortest")
    full_length_fraction: float = option(
        0.5,
        "share of windows with the full length, the others are uniform",
        low=0.0,
        high=1.0,
        was="full_share",
    )
    validation_fraction: float = option(
        0.05, "share of the genome kept for validation", low=0.001, high=0.5, was="validation_share"
    )
    validation_block: int = option(100_000, "bases of a validation region, at most", low=1_000)


@dataclass(frozen=True)
class Pmi:
    definition: str = option("exact", "recipe of the difficulty", choices=("exact", "published"))
    min_count: int = option(101, "a k-mer seen less often has no score and ranks last", low=2)
    table: str = option("", "a table (TSV or CSV) to use instead of computing one from the genome")


@dataclass(frozen=True)
class Masking:
    mask_ratio: float = option(
        0.15,
        "expected share of masked tokens, the same for every strategy",
        low=0.001,
        high=0.9,
        was="mask_fraction",
    )
    center_rate: str = option(
        "solved",
        "`solved` for mask_ratio, or the `paper`'s fixed centre rates",
        choices=("solved", "paper"),
    )
    span_width: float = option(
        3.8, "mean bases that a span hides (strategy span)", low=1.0, high=100
    )
    temperature: float = option(
        0.1,
        "of soft_pmi: near 0 global_pmi, large random_wide",
        low=0.001,
        high=1000.0,
    )


@dataclass(frozen=True)
class Plateau:
    rule: str = option(
        "relative",
        "`relative`: drop of the smoothed perplexity against the stage's largest; `paper`: drop",
        choices=("relative", "paper"),
    )
    threshold: float = option(
        0.04,
        "a drop below this counts as flat (relative: a share; paper: perplexity, 1.0)",
        low=0.0,
    )
    patience: int = option(2, "flat validations in a row before the switch (relative rule)", low=1)
    smoothing: float = option(
        0.3, "weight of the past in the smoothed loss (relative rule)", low=0.0, high=0.99
    )


@dataclass(frozen=True)
class Ramp:
    schedule: str = option(
        "constant",
        "how the value moves from that in `masking`; `curriculum`: with the strategies",
        choices=("constant", "linear", "cosine", "sqrt", "exponential", "curriculum"),
    )
    end: float = option(0.0, "the value at the end", low=0.0)


@dataclass(frozen=True)
class Ramps:
    mask_ratio: Ramp = field(default_factory=Ramp, metadata={"was": "mask_fraction"})
    span_width: Ramp = field(default_factory=Ramp)
    temperature: Ramp = field(default_factory=Ramp)


@dataclass(frozen=True)
class Curriculum:
    schedule: str = option(
        "constant",
        "how the strategies follow each other",
        choices=("constant", "linear", "cosine", "sqrt", "exponential", "steps", "plateau"),
    )
    strategies: tuple[str, ...] = option(
        None,
        "names from easy to hard; your own as package.module:Name",
        factory=lambda: ("random",),
    )
    milestones: tuple[float, ...] = option(
        None,
        "of schedule steps: where in the run each strategy but the first begins, 0 to 1",
        factory=tuple,
        was="starts",
    )
    mix_by: str = option(
        "batch",
        "what one strategy masks while two are mixed",
        choices=("batch", "sequence"),
        was="mix",
    )
    order: str = option(
        "forward",
        "controls: the schedule backwards, or its steps in random order",
        choices=("forward", "reverse", "shuffle"),
    )
    plateau: Plateau = field(default_factory=Plateau)
    ramps: Ramps = field(default_factory=Ramps)


@dataclass(frozen=True)
class FastStart:
    embeddings: bool = option(True, "k-mers as sums of their bases; false: random, the same size")
    positions: bool = option(True, "sinusoids; false: random, the same size")
    heads: bool = option(True, "each head looks at one neighbour; false: BERT's weights")
    transport: bool = option(
        True, "values arrive with the variance of states; false: BERT's weights"
    )


@dataclass(frozen=True)
class Model:
    preset: str = option("small", "sizes of the encoder", choices=("small", "logo", "dnabert"))
    num_layers: int = option(0, "number of layers; 0: the preset's", low=0, high=200, was="layers")
    hidden_size: int = option(0, "width of the states; 0: the preset's", low=0, was="width")
    num_heads: int = option(0, "attention heads; 0: the preset's", low=0, was="heads")
    intermediate_size: int = option(
        0, "width of the feed-forward; 0: the preset's", low=0, was="feed_forward"
    )
    max_position_embeddings: int = option(
        512, "most tokens a sequence may have, [CLS] and [SEP] included", low=8, was="positions"
    )
    dropout: float = option(0.0, "dropout everywhere", low=0.0, high=0.9)
    norm: str = option(
        "post", "LayerNorm behind each sum (BERT) or in front of each part", choices=("post", "pre")
    )
    embedding_norm: bool = option(
        True, "LayerNorm on the embeddings; with norm: pre, false is ESM's form, true ModernBERT's"
    )
    position_embedding: str = option(
        "learned",
        "how the encoder knows positions: a vector each, turned queries and keys, or scores that "
        "fall with the distance",
        choices=("learned", "rotary", "alibi"),
    )
    mlp: str = option("gelu", "feed-forward: GELU, or gated by it", choices=("gelu", "geglu"))
    biases: bool = option(True, "biases of products and LayerNorms; the output keeps its own")
    conv_stem: int = option(
        0, "tokens that a convolution in front of the layers spans, odd; 0: none", low=0, high=31
    )
    init: str = option(
        "bert",
        "initial weights; `fast_start` is for BERT's own blocks",
        choices=("bert", "fast_start"),
    )
    fast_start: FastStart = field(default_factory=FastStart)


@dataclass(frozen=True)
class Optim:
    learning_rate: float = option(4e-4, "peak learning rate of AdamW", low=0.0, was="rate")
    beta1: float = option(0.9, "AdamW", low=0.0, high=0.9999)
    beta2: float = option(0.98, "AdamW", low=0.0, high=0.99999)
    eps: float = option(1e-6, "AdamW", low=0.0)
    weight_decay: float = option(0.01, "AdamW, on weight matrices alone", low=0.0)
    warmup_steps: int = option(500, "steps of linear warm-up, then linear decay to 0", low=0)
    max_grad_norm: float = option(
        1.0, "largest norm of the gradient; 0: no clipping", low=0.0, was="clip"
    )


@dataclass(frozen=True)
class Train:
    max_steps: int = option(10_000, "optimiser steps", low=1)
    global_batch_size: int = option(
        250, "windows an optimiser step, over all devices", low=1, was="batch"
    )
    micro_batch_size: int = option(
        10, "windows a device takes at once; the rest is accumulated", low=1, was="micro_batch"
    )
    accelerator: str = option(
        "auto", "Lightning's accelerator", choices=("auto", "cpu", "gpu", "cuda", "mps")
    )
    devices: int = option(1, "processes on this machine, one a device", low=1)
    nodes: int = option(1, "machines", low=1)
    strategy: str = option(
        "auto",
        "of several processes: `auto` each holds the model (DDP), `fsdp` each a share of it",
        choices=("auto", "fsdp"),
    )
    precision: str = option(
        "32-true",
        "arithmetic; `bf16` rounds weights and states where they are used, weights, their updates "
        "and the loss stay in float32",
        choices=("32-true", "bf16"),
    )
    compile: str = option(
        "auto",
        "torch.compile of the training step; auto: on a CUDA GPU",
        choices=("auto", "always", "never"),
    )
    profile: bool = option(False, "write a profiler's trace of a few steps into run.dir/profile")
    log_every_n_steps: int = option(
        10, "steps between two lines of the log", low=1, was="log_every"
    )


@dataclass(frozen=True)
class Validation:
    every_n_steps: int = option(
        100, "steps between validations; a checkpoint follows each", low=1, was="every"
    )
    windows: int = option(128, "validation windows", low=1)


@dataclass(frozen=True)
class Probe:
    every_n_steps: int = option(
        0, "steps between probes of the states on labelled tasks; 0: none", low=0, was="every"
    )
    tasks: tuple[str, ...] = option(
        None, "of docs/tasks.md, or YAML files of your own", factory=lambda: ("shuffled",)
    )
    root: str = option("", "folder with the published files of the tasks")
    shots: int = option(100, "training examples a class of a probe", low=4)


@dataclass(frozen=True)
class Experiment:
    name: str = option("", "name of the run; default: the file's")
    seed: int = option(0, "of the weights, windows and masks", low=0)
    run: Run = field(default_factory=Run)
    data: Data = field(default_factory=Data)
    pmi: Pmi = field(default_factory=Pmi)
    masking: Masking = field(default_factory=Masking)
    curriculum: Curriculum = field(default_factory=Curriculum)
    model: Model = field(default_factory=Model)
    optim: Optim = field(default_factory=Optim)
    train: Train = field(default_factory=Train)
    validation: Validation = field(default_factory=Validation)
    probe: Probe = field(default_factory=Probe)


def iter_keys(section: Any = None, prefix: str = ""):
    """Yield (dotted key, dataclass field) of every key of an experiment."""
    for part in fields(section or Experiment):
        if is_dataclass(part.type):
            yield from iter_keys(part.type, f"{prefix}{part.name}.")
        else:
            yield f"{prefix}{part.name}", part


def get_value(experiment: Any, dotted: str) -> Any:
    """The value at a dotted key."""
    for name in dotted.split("."):
        experiment = getattr(experiment, name)
    return experiment
