"""The front door: what `import cmgems` offers, each function a page of its own elsewhere.

Importing this module costs nothing: what a function needs (numpy, numba, torch, lightning; up to
several seconds) is imported when it is called. Hence the imports inside the functions.

What a caller cannot use is refused with a `UserError`, one line that says what was found and what
is wanted. `docs/python.md` shows all of it at work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmgems.errors import UserError

if TYPE_CHECKING:
    import lightning as L
    import numpy as np

    from cmgems.comparison.compare import Comparison
    from cmgems.config.schema import Experiment
    from cmgems.data_modules.iterable import TrainingWindows
    from cmgems.difficulty.table import PmiTable
    from cmgems.evaluation.config import Evaluation
    from cmgems.genome.genome import Genome
    from cmgems.inference.model import PretrainedModel
    from cmgems.inspection.masked_sequence import MaskedSequence

DEVICES = ("auto", "cpu", "cuda")


def load_genome(source: str | Path) -> Genome:
    """Open a genome; a sequence file is converted once and cached.

    Parameters
    ----------
    source : `sample`, a store that `cmgems genome` made, or a sequence file
        FASTA (plain, gzip, bgzip), 2bit, GenBank or EMBL. The cache is $CMGEMS_CACHE, else
        $XDG_CACHE_HOME/cmgems, else ~/.cache/cmgems.

    Returns
    -------
    Genome
        Its `codes` are uint8 base codes of all contigs, A T C G = 0 1 2 3, anything else 4, mapped
        from disk.

    Raises
    ------
    UserError
        If there is no such file, or it is not a genome.

    Examples
    --------
    >>> genome = load_genome("sample")
    >>> genome.name, genome.bases
    ('GRCh37_20_44000001-48000000', 4000000)
    """
    from cmgems.genome.cache import load_genome as open_or_build

    return open_or_build(str(source))


def pmi_table(
    genome: Genome, k: int = 6, definition: str = "exact", min_count: int = 101
) -> PmiTable:
    """The pointwise mutual information of all k-mers of a genome, and their ranks by it.

    Parameters
    ----------
    genome : see `load_genome`; the counts are cached in its store
    k : 2 to 12
    definition : `exact` (over all segmentations of a k-mer) or `published` (as GeneMask's authors)
    min_count : k-mers that occur less often have no score, and rank last

    Returns
    -------
    PmiTable
        `counts` int64, `pmi` and `npmi` float64 (nats, nan where there is no score) and `rank`
        int32 (1 = highest NPMI = masked first), all [4**k], in the order of the k-mers with
        A T C G as digits.

    Raises
    ------
    UserError
        If a parameter is out of range, or no k-mer occurs `min_count` times.

    Examples
    --------
    >>> table = pmi_table(load_genome("sample"), k=3)
    >>> table.rank.shape, int(table.rank.min())
    ((64,), 1)
    """
    from cmgems.difficulty.pmi import compute_pmi_table

    return compute_pmi_table(genome, k, definition, min_count)


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and check an experiment of pretraining.

    Parameters
    ----------
    path : YAML file; `cmgems pretrain --help` lists its keys
    overrides : `key.path=value` as on the command line; they win over the file

    Returns
    -------
    Experiment
        Frozen dataclasses, one per section of the file.

    Raises
    ------
    UserError
        With one line per problem.

    Examples
    --------
    >>> experiment = load_experiment("experiments/pretrain/cm_gems.yaml", ["train.max_steps=200"])
    >>> experiment.curriculum.strategies, experiment.train.max_steps
    (('genemask', 'global_pmi'), 200)
    """
    from cmgems.runs.experiment import load

    return load(path, overrides)


def pretrain(experiment: Experiment, callbacks: Sequence[L.Callback] = ()) -> dict[str, Any]:
    """Run an experiment, or resume it (`run.resume=true`); print its summary.

    Parameters
    ----------
    experiment : see `load_experiment`; `run.dir` is the folder that the run writes
    callbacks : Lightning callbacks of your own
        What their `state_dict` returns is saved in the checkpoints.

    Returns
    -------
    dict
        What `results.json` in the folder holds: `final` validation by masks, `masked_fraction`,
        `tokens`, `training_seconds`, hashes of genome and table, ...

    Raises
    ------
    UserError
        If something that the experiment names cannot be used, or the folder holds another run.
    RunStopped
        If a signal stopped the run; its state is saved. (In `cmgems.errors`, as the next.)
    RunFailed
        If the training diverged.

    Examples
    --------
    >>> experiment = load_experiment(
    ...     "experiments/pretrain/random.yaml",
    ...     ["train.max_steps=10", "validation.every_n_steps=10", "validation.windows=8",
    ...      "validation.final_windows=40",
    ...      "model.hidden_size=32", "model.num_heads=2", "model.intermediate_size=64",
    ...      "optim.warmup_steps=2", "data.window_length=64", "run.dir=runs/tiny"])
    >>> results = pretrain(experiment)  # doctest: +ELLIPSIS
    <BLANKLINE>
    random: 10 steps
    ...
    >>> sorted(results["final"])
    ['own_masks', 'random', 'random_wide']
    """
    from cmgems.pretraining import pretrain as run_experiment

    return run_experiment(experiment, callbacks)


def windows(experiment: Experiment, batch_size: int = 1, start: int = 0) -> TrainingWindows:
    """The training windows of an experiment, for other training loops: an endless iterable.

    Window number n is that of a run of the experiment, whoever reads it. `cmgems.hf` masks them as
    that run does.

    Parameters
    ----------
    experiment : its genome, regions, window lengths, strands and seed
    batch_size : of the torch `DataLoader` that reads them with several workers
    start : number of the first window

    Returns
    -------
    TrainingWindows
        An `IterableDataset` of torch; its examples are `{"sequence": text, "number": n}`. For
        Hugging Face's datasets: `datasets.IterableDataset.from_generator(lambda: iter(stream))`.
        (`cmgems.data_modules.iterable.validation_windows` has those of validation.)

    Raises
    ------
    UserError
        If the genome cannot be used, or a number is out of range.

    Examples
    --------
    >>> stream = windows(load_experiment("experiments/pretrain/random.yaml"))
    >>> example = next(iter(stream))
    >>> example["number"], len(example["sequence"]), example["sequence"][:10]
    (0, 173, 'TGGGAGGTGT')
    """
    from cmgems.data_modules.iterable import TrainingWindows
    from cmgems.genome.joined import load_pretraining_genome

    for name, found, least in (("batch_size", batch_size, 1), ("start", start, 0)):
        if found < least:
            raise UserError(f"{name}: found {found}, wanted at least {least}")
    return TrainingWindows(experiment, load_pretraining_genome(experiment.data), batch_size, start)


def load_pretrained(path: str | Path, device: str = "cpu") -> PretrainedModel:
    """A pretrained model, to embed sequences and to say how likely they are.

    Parameters
    ----------
    path : a run folder (its best checkpoint), a checkpoint in one, or a Hugging Face folder
        Such as `cmgems export` writes, or the published ones of DNABERT, DNABERT-2 and Nucleotide
        Transformer.
    device : `cpu`, `cuda`, or `auto`: a GPU where there is one

    Returns
    -------
    PretrainedModel
        With `embed`, `embed_tokens`, `log_likelihood` and `score_variants`.

    Raises
    ------
    UserError
        If there is no model, its files are damaged, or there is no such device.

    Examples
    --------
    >>> model = load_pretrained("runs/cm_gems")
    >>> model.embed(["ACGTACGTAC", "TTTTTTGGG"]).shape == (2, model.hidden_size)
    True
    """
    from cmgems.hub.pretrained import load_pretrained as read_pretrained
    from cmgems.inference.model import PretrainedModel

    if device not in DEVICES:
        raise UserError(f"device: found {device!r}, wanted one of {', '.join(DEVICES)}")
    return PretrainedModel(read_pretrained(path), device)


def mask(
    sequences: Sequence[str | np.ndarray],
    strategy: str = "random",
    experiment: Experiment | None = None,
    seed: int = 0,
) -> list[MaskedSequence]:
    """What a masking strategy does to sequences: their tokens, which are masked, what is hidden.

    A mask is a function of the seed, of the number of the sequence and of the sequence.

    Parameters
    ----------
    sequences : text in either case, or base codes as `Genome.codes` has them (uint8 [L])
        Of at most `data.window_length` bases (510 by default).
    strategy : a name of docs/masking.md, or `package.module:Name` for one of your own
    experiment : says tokens, genome, ranks and budget (`data`, `pmi`, `masking`)
        Default: k = 6, the sample genome, 15 % of the tokens.
    seed : of the masks

    Returns
    -------
    list of MaskedSequence
        With `tokens` (text), `token_ids` int32 [K], `mask` bool [K] and `hidden` bool [L];
        `print` shows the sequence with `_` for the hidden bases.

    Raises
    ------
    UserError
        If a sequence is too short, too long or not DNA, or there is no such strategy.

    Examples
    --------
    >>> (masked,) = mask(["GATTACAGATTACAGATTACAGATTACA"], "random_wide", seed=3)
    >>> len(masked.tokens), masked.mask.shape, masked.hidden.shape
    (23, (23,), (28,))
    """
    from cmgems.config.schema import Curriculum, Experiment
    from cmgems.data_modules.pretraining import GenomeDataModule
    from cmgems.genome.joined import load_pretraining_genome
    from cmgems.inspection.masked_sequence import mask_sequences
    from cmgems.masking.registry import strategy as find_strategy
    from cmgems.tasks.user_sequences import encode_user_sequences
    from cmgems.tokenization import build_tokenization
    from cmgems.training.masks import build_masker, load_difficulty

    find_strategy(strategy)
    only = Curriculum(schedule="constant", strategies=(strategy,))
    experiment = replace(experiment or Experiment(), curriculum=only)
    min_bases = build_tokenization(experiment.data).min_bases
    codes = encode_user_sequences(sequences, min_bases)
    genome = load_pretraining_genome(experiment.data)
    data = GenomeDataModule(experiment, genome)
    masker = build_masker(experiment, data, load_difficulty(experiment, genome))
    return mask_sequences(masker, strategy, codes, experiment.data.window_length, seed)


def load_evaluation(path: str | Path, overrides: Sequence[str] = ()) -> Evaluation:
    """Read and check an evaluation.

    Parameters
    ----------
    path : YAML file; `cmgems evaluate --help` lists its keys
    overrides : `key.path=value` as on the command line; they win over the file

    Returns
    -------
    Evaluation
        Frozen dataclasses, one per section of the file.

    Raises
    ------
    UserError
        With one line per problem.

    Examples
    --------
    >>> load_evaluation("experiments/finetune/probe.yaml", ["tasks.names=shuffled"]).protocol
    'probe'
    """
    from cmgems.evaluation.config import load_evaluation as load

    return load(path, overrides)


def evaluate(evaluation: Evaluation) -> dict[str, Any]:
    """Score pretrained models and baselines on labelled tasks; print the table.

    Results that the folder of the evaluation (`run.dir`) has already are not computed again. On a
    CPU the work is spread over processes: a script calls this below
    `if __name__ == "__main__":`, or sets `compute.workers=1`.

    Parameters
    ----------
    evaluation : see `load_evaluation`

    Returns
    -------
    dict
        What `results.json` in the folder holds: `summaries` (mean and interval per model, task,
        number of shots and metric), `comparisons` of pairs of models, `scores` one by one, ...

    Raises
    ------
    UserError
        If a model or a task cannot be used.

    Examples
    --------
    >>> evaluation = load_evaluation(
    ...     "experiments/finetune/probe.yaml",
    ...     ["tasks.names=shuffled", "few_shot.shots=[20]", "few_shot.replicates=2",
    ...      "baselines=kmers", "compute.workers=1", "run.dir=evaluations/tiny"])
    >>> results = evaluate(evaluation)  # doctest: +ELLIPSIS
    shuffled: binary, scored on its test split
    ...
    >>> [(row["model"], row["shots"]) for row in results["summaries"] if row["official"]]
    [('kmers', 20)]
    """
    from cmgems.evaluation.run import evaluate as run_evaluation

    return run_evaluation(evaluation)


def compare(paths: Sequence[str | Path], baseline: str = "") -> Comparison:
    """Compare finished runs: differences with intervals, steps to match.

    Runs that differ in their seed alone are one group.

    Parameters
    ----------
    paths : folders of runs, of sweeps, and of evaluations of the runs
    baseline : label of the group to compare with
        By default constant `random` masks, or else the first group.

    Returns
    -------
    Comparison
        `results` by metric, the baseline first; `cmgems.comparison.write` has it as text
        (`as_terminal_text`) and as files (`write_comparison`).

    Raises
    ------
    UserError
        If there is no finished run, or one is listed twice.

    Examples
    --------
    >>> comparison = compare(["runs/cm_gems"])
    >>> comparison.baseline is comparison.groups[0]
    True
    """
    from cmgems.comparison.compare import compare as compare_groups
    from cmgems.comparison.records import read_runs

    if isinstance(paths, str | Path):
        paths = [paths]
    if not paths:
        raise UserError("paths: found none, wanted folders of runs")
    return compare_groups(read_runs([Path(path) for path in paths]), baseline)
