"""An experiment: every key, its default, unit and range. `load` is in `cmgems.runs.experiment`.

The help (`cmgems pretrain --help`), the error messages and the tests read these dataclasses.
"""

from dataclasses import dataclass, field

from cmgems.config.encoders import Model
from cmgems.config.genomes import GenomeSource
from cmgems.config.options import option


@dataclass(frozen=True)
class Run:
    dir: str = option("", "folder of the run; empty: runs/NAME")
    resume: bool | str = option(
        False,
        "resume the run in run.dir from its last checkpoint; `auto`: begin it where there is none "
        "yet, as a job must that its cluster starts again",
        choices=(True, False, "auto"),
    )


@dataclass(frozen=True)
class Data:
    genome: str = option(
        "sample",
        "genome: `sample` (4 Mb of human chromosome 20), a genome store, a FASTA, 2bit or GenBank "
        "file, or a name that `cmgems data list` shows (hg38, hg38/chr20), which is fetched once",
    )
    genomes: tuple[GenomeSource, ...] = option(
        None,
        "several genomes in place of data.genome: entries `{path: hg38, weight: 2}`, each perhaps "
        "with regions, exclude, validation_contigs, test_contigs (docs/regions.md); a genome's "
        "share of the windows is its weight over the sum of the weights",
        factory=tuple,
    )
    regions: tuple[str, ...] = option(
        None,
        "files of the intervals to pretrain on: BED, GTF:FEATURE or a table (docs/regions.md); "
        "empty: the whole genome",
        factory=tuple,
    )
    exclude: tuple[str, ...] = option(
        None, "files of intervals to leave out, as in data.regions", factory=tuple
    )
    validation_contigs: tuple[str, ...] = option(
        None,
        "contigs, or regions CONTIG:START-END, held out for validation in place of "
        "data.validation_fraction of the genome",
        factory=tuple,
    )
    test_contigs: tuple[str, ...] = option(
        None,
        "contigs, or regions, that are in neither training nor validation",
        factory=tuple,
    )
    strands: str = option(
        "forward",
        "strand of training windows: `forward`, as in the file, or `both`: half of them, drawn by "
        "the number of the window, are reverse complements",
        choices=("forward", "both"),
    )
    tokenization: str = option(
        "kmers",
        "what a token is: `kmers`, overlapping words of data.k bases, single `bases`, "
        "`nonoverlapping` words of data.k bases, or byte pairs, `bpe` (docs/tokens.md)",
        choices=("kmers", "bases", "nonoverlapping", "bpe"),
    )
    tokenizer: str = option(
        "",
        "tokenizer.json of byte pairs (tokenization bpe); empty: they are learned from the genome",
    )
    bpe_vocab_size: int = option(
        4096, "tokens that are learned, special ones included", low=16, high=32_768
    )
    k: int = option(
        6, "bases of the k-mers that PMI ranks: of a token, or around a base", choices=(3, 4, 5, 6)
    )
    window_length: int = option(
        510, "length of a full window, bases", low=16, high=100_000, was="window"
    )
    min_window_length: int = option(
        6, "length of the shortest window, bases", low=3, high=100_000, was="shortest"
    )
    full_length_fraction: float = option(
        0.5,
        "fraction of windows with the full length; the lengths of the others are uniform",
        low=0.0,
        high=1.0,
        was="full_share",
    )
    validation_fraction: float = option(
        0.05,
        "fraction of the genome held out for validation",
        low=0.001,
        high=0.5,
        was="validation_share",
    )
    validation_block: int = option(
        100_000, "maximum length of a validation region, bases", low=1_000
    )


@dataclass(frozen=True)
class Pmi:
    definition: str = option(
        "exact", "definition of the difficulty of a k-mer", choices=("exact", "published")
    )
    min_count: int = option(
        101, "minimum count of a k-mer; rarer ones have no score and rank last", low=2
    )
    skip_repeats: bool = option(
        False,
        "count k-mers outside repeats alone; repeats are words of 16 bases with 10 copies in the "
        "genome",
    )
    table: str = option("", "PMI table (TSV or CSV) to use; empty: it is computed from the genome")


@dataclass(frozen=True)
class Masking:
    mask_ratio: float = option(
        0.15,
        "expected fraction of what `budget` counts, the same for every strategy",
        low=0.001,
        high=0.9,
        was="mask_fraction",
    )
    budget: str = option(
        "tokens",
        "what mask_ratio is a fraction of: the `tokens`, masked ones; the bases, `hidden_bases` "
        "that no visible token shows",
        choices=("tokens", "hidden_bases"),
    )
    center_rate: str = option(
        "solved",
        "rate of mask centres: `solved` for mask_ratio, or fixed to those of the `paper`",
        choices=("solved", "paper"),
    )
    span_width: float = option(
        3.8, "mean number of bases that a span hides (strategy span)", low=1.0, high=100
    )
    repeat_weight: float = option(
        1.0,
        "weight in the training loss of masked bases in repeats, next to 1 for all others",
        low=0.0,
        high=1.0,
    )
    repeats: str = option(
        "copies",
        "what repeat_weight takes for repeats: `copies`, words of 16 bases with 10 copies in the "
        "genome, or `soft_mask`, what is in lower case in its file, or in its BED of repeats "
        "(cmgems genome --repeats)",
        choices=("copies", "soft_mask"),
    )
    temperature: float = option(
        0.1,
        "temperature of strategy soft_pmi: near 0 it is global_pmi, if large random_wide",
        low=0.001,
        high=1000.0,
    )


@dataclass(frozen=True)
class Plateau:
    rule: str = option(
        "relative",
        "what is compared with threshold: `relative`, the drop of the smoothed perplexity as a "
        "fraction of the stage's largest drop; `paper`, the change of the perplexity",
        choices=("relative", "paper"),
    )
    threshold: float = option(
        0.04,
        "a validation with a smaller drop (relative: a fraction) or change (paper: of perplexity, "
        "1.0) is flat",
        low=0.0,
    )
    patience: int = option(
        2, "consecutive flat validations before the switch (relative rule)", low=1
    )
    smoothing: float = option(
        0.3, "weight of the past in the smoothed loss (relative rule)", low=0.0, high=0.99
    )


@dataclass(frozen=True)
class Ramp:
    schedule: str = option(
        "constant",
        "how the value changes from that in `masking` to `end`; `curriculum`: with the strategies",
        choices=("constant", "linear", "cosine", "sqrt", "exponential", "curriculum"),
    )
    end: float = option(0.0, "value at the end of the run", low=0.0)


@dataclass(frozen=True)
class Ramps:
    mask_ratio: Ramp = field(default_factory=Ramp, metadata={"was": "mask_fraction"})
    span_width: Ramp = field(default_factory=Ramp)
    temperature: Ramp = field(default_factory=Ramp)


@dataclass(frozen=True)
class Curriculum:
    schedule: str = option(
        "constant",
        "how the curriculum moves from one strategy to the next",
        choices=("constant", "linear", "cosine", "sqrt", "exponential", "steps", "plateau"),
    )
    strategies: tuple[str, ...] = option(
        None,
        "masking strategies, from easy to hard; a custom one as package.module:Name",
        factory=lambda: ("random",),
    )
    milestones: tuple[float, ...] = option(
        None,
        "fraction of the run at which each strategy but the first begins (schedule steps)",
        factory=tuple,
        was="starts",
    )
    mix_by: str = option(
        "batch",
        "unit that one strategy masks while two strategies are mixed",
        choices=("batch", "sequence"),
        was="mix",
    )
    order: str = option(
        "forward",
        "order of the schedule's steps; reverse and shuffle are controls",
        choices=("forward", "reverse", "shuffle"),
    )
    plateau: Plateau = field(default_factory=Plateau)
    ramps: Ramps = field(default_factory=Ramps)


@dataclass(frozen=True)
class Optim:
    name: str = option(
        "adamw",
        "AdamW for every weight, or Muon for the weight matrices of the layers and AdamW "
        "for the rest",
        choices=("adamw", "muon"),
    )
    learning_rate: float = option(4e-4, "peak learning rate of AdamW", low=0.0, was="rate")
    muon_learning_rate: float = option(
        1e-2, "peak learning rate of Muon, whose updates are scaled to the size of AdamW's", low=0.0
    )
    beta1: float = option(0.9, "decay rate of AdamW's first moment", low=0.0, high=0.9999)
    beta2: float = option(0.98, "decay rate of AdamW's second moment", low=0.0, high=0.99999)
    eps: float = option(1e-6, "term in the denominator of AdamW's updates", low=0.0)
    weight_decay: float = option(0.01, "weight decay, on weight matrices only", low=0.0)
    schedule: str = option(
        "linear",
        "learning rate after the warm-up: `linear` decay to 0, or `wsd`, constant until the last "
        "decay_steps",
        choices=("linear", "wsd"),
    )
    warmup_steps: int | float = option(
        500, "steps of linear warm-up; below 1: their share of train.max_steps", low=0, high=10**9
    )
    decay_steps: int = option(
        0, "steps of linear decay to 0 at the end; 0: none (schedule wsd)", low=0
    )
    max_grad_norm: float = option(
        1.0, "maximum norm of the gradient; 0: no clipping", low=0.0, was="clip"
    )

    def warmup(self, max_steps: int) -> int:
        """The steps of warm-up of a run of so many steps."""
        given = self.warmup_steps
        return round(given * max_steps) if given < 1 else int(given)


@dataclass(frozen=True)
class Train:
    max_steps: int = option(10_000, "number of optimizer steps", low=1, high=10**9)
    global_batch_size: int = option(
        250, "windows per optimizer step, over all devices", low=1, high=10**8, was="batch"
    )
    micro_batch_size: int = option(
        10,
        "windows per forward pass of a device; gradients are accumulated over the rest",
        low=1,
        high=10**6,
        was="micro_batch",
    )
    accelerator: str = option(
        "auto", "Lightning's accelerator", choices=("auto", "cpu", "gpu", "cuda", "mps")
    )
    devices: int = option(1, "processes on this machine, one per device", low=1, high=1_024)
    nodes: int = option(1, "number of machines", low=1, high=10_000)
    strategy: str = option(
        "auto",
        "how several processes hold the model: `auto`, a copy each (DDP); `fsdp`, a part each",
        choices=("auto", "fsdp"),
    )
    precision: str = option(
        "32-true",
        "precision of the arithmetic; `bf16` rounds weights and hidden states where they are used, "
        "while stored weights, their updates and the loss stay in float32",
        choices=("32-true", "bf16"),
    )
    compile: str = option(
        "auto",
        "use torch.compile for the training step; auto: on a CUDA GPU",
        choices=("auto", "always", "never"),
    )
    loggers: tuple[str, ...] = option(
        None,
        "where metrics go besides metrics.csv: `tensorboard`, `csv` (a column per metric), `wandb` "
        "and `mlflow` (docs/tracking.md)",
        factory=lambda: ("tensorboard",),
        choices=("tensorboard", "csv", "wandb", "mlflow"),
    )
    figures: bool = option(True, "draw the schedule and the difficulty of k-mers into TensorBoard")
    profile: bool = option(False, "write a profiler's trace of a few steps to run.dir/profile")
    log_every_n_steps: int = option(
        10, "steps between two lines of the training log", low=1, was="log_every"
    )
    keep_checkpoints_at: tuple[float, ...] = option(
        None,
        "fractions of the run after which a checkpoint is kept, as stepN.ckpt; each at a "
        "validation",
        factory=tuple,
    )


@dataclass(frozen=True)
class Branch:
    run: str = option(
        "", "folder of the run that this one was branched from; `cmgems branch` fills"
    )
    step: int = option(0, "step of the checkpoint that it began from", low=0)
    sha256: str = option("", "digest of that checkpoint")


@dataclass(frozen=True)
class Validation:
    every_n_steps: int = option(
        100,
        "steps between validations; one more is at the end, and a checkpoint follows each",
        low=1,
        was="every",
    )
    windows: int = option(128, "number of validation windows", low=1)
    final_windows: int = option(
        4096,
        "number of validation windows at the end of a run, or all that there are",
        low=1,
    )
    judge_windows: int = option(
        1024,
        "number of these on which the finished model is judged under further masks",
        low=1,
    )


@dataclass(frozen=True)
class Probe:
    every_n_steps: int = option(
        0,
        "steps between probes of the hidden states on labelled tasks; 0: none",
        low=0,
        was="every",
    )
    tasks: tuple[str, ...] = option(
        None, "tasks of docs/tasks.md, or custom YAML files", factory=lambda: ("shuffled",)
    )
    root: str = option(
        "", "folder with the published files of the tasks; empty: that of `cmgems data get`"
    )
    shots: int = option(100, "training examples per class of a probe", low=4)


@dataclass(frozen=True)
class Experiment:
    name: str = option("", "name of the run; empty: the file's")
    seed: int = option(0, "seed of the weights, windows and masks", low=0)
    run: Run = field(default_factory=Run)
    data: Data = field(default_factory=Data)
    pmi: Pmi = field(default_factory=Pmi)
    masking: Masking = field(default_factory=Masking)
    curriculum: Curriculum = field(default_factory=Curriculum)
    model: Model = field(default_factory=Model)
    optim: Optim = field(default_factory=Optim)
    train: Train = field(default_factory=Train)
    branch: Branch = field(default_factory=Branch)
    validation: Validation = field(default_factory=Validation)
    probe: Probe = field(default_factory=Probe)
