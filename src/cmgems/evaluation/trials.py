"""What an evaluation consists of: trials, each one training and one test, and batches of them.

A batch is what is computed side by side: the replicates and seeds of one model on one task and one
number of shots. Batches are formed from the whole evaluation, whatever is done already, so that a
score does not depend on where an evaluation was interrupted.
"""

from collections.abc import Sequence
from typing import NamedTuple

from cmgems.cost.flops import parameters
from cmgems.errors import UserError
from cmgems.evaluation.config import UNTRAINED, Evaluation
from cmgems.evaluation.sources import ModelSource

WITH_COUNTS = " + kmers"  # behind a model's name: k-mer counts beside its hidden states
FULL = 0  # shots of the whole training split
MAX_TRIALS = 100_000
PUBLISHED = -1  # replicate: the examples that the publishers chose
MAX_PARAMETERS_SIDE_BY_SIDE = 2_000_000  # above, a CPU gains nothing from a stack of models


class TrialSpec(NamedTuple):
    """What one score is of. `shots` counts examples per class; 0: the whole training split."""

    model: str  # a source's name, perhaps with `WITH_COUNTS` behind it, or one of `BASELINES`
    task: str  # as the user named it: of the registry, or a YAML file
    shots: int
    replicate: int
    seed: int


class TrialBatch(NamedTuple):
    """Trials that are computed side by side."""

    # of one model (with and without k-mer counts), task and number of shots
    trials: tuple[TrialSpec, ...]

    @property
    def model(self) -> str:
        """The model without what stands beside it."""
        return self.trials[0].model.removesuffix(WITH_COUNTS)

    @property
    def task(self) -> str:
        return self.trials[0].task

    @property
    def shots(self) -> int:
        return self.trials[0].shots


def make_batches(
    evaluation: Evaluation,
    sources: Sequence[ModelSource],
    shots_of: dict[str, list[int]],
    on_gpu: bool,
) -> list[TrialBatch]:
    """All batches, the most costly ones first, so that workers finish together.

    Parameters
    ----------
    shots_of : by task, the numbers of shots that it has examples for
    """
    _check_count(evaluation, sources, shots_of)
    alone = [b for b in evaluation.baselines if b != UNTRAINED]
    batches = []
    for task, shots in shots_of.items():
        for n in shots:
            replicates = _replicates(evaluation, n)
            seeds = range(evaluation.seeds if evaluation.protocol in ("few_shot", "full") else 1)
            for source in sources:
                size = choose_models_per_batch(evaluation, source, on_gpu)
                names = [source.name]
                if evaluation.probe.kmer_counts:
                    names.append(source.name + WITH_COUNTS)
                trials = [
                    TrialSpec(name, task, n, r, s)
                    for s in seeds
                    for r in replicates
                    for name in names
                ]
                batches += [TrialBatch(tuple(part)) for part in _parts(trials, size, evaluation)]
            if evaluation.protocol != "zero_shot":
                batches += [
                    TrialBatch((TrialSpec(baseline, task, n, r, s),))
                    for baseline in alone
                    for r in replicates
                    for s in (seeds if baseline == "cnn" else [0])
                ]

    def cheapness(batch: TrialBatch) -> tuple[bool, int]:
        examples = batch.shots or 10**9  # the whole split comes first
        return batch.model in alone, -examples * len(batch.trials)

    return sorted(batches, key=cheapness)


def _check_count(
    evaluation: Evaluation, sources: Sequence[ModelSource], shots_of: dict[str, list[int]]
) -> None:
    """Refuse more trainings than anybody can mean, before each of them is listed."""
    settings = sum(map(len, shots_of.values()))
    count = settings * len(sources) * evaluation.few_shot.replicates * evaluation.seeds
    if count > MAX_TRIALS:
        raise UserError(
            f"seeds x few_shot.replicates x models x tasks x shots: found {count:,} trainings, "
            f"wanted at most {MAX_TRIALS:,}"
        )


def _replicates(evaluation: Evaluation, shots: int) -> list[int]:
    if shots == FULL:
        return [0]
    if evaluation.few_shot.published:
        return [PUBLISHED]
    return list(range(evaluation.few_shot.replicates))


def _parts(trials: list[TrialSpec], size: int, evaluation: Evaluation) -> list[list[TrialSpec]]:
    """Parts of at most `size` trials; those of a frozen encoder have one seed, to share it."""
    one_seed = evaluation.classifier.finetune == "frozen" or evaluation.protocol == "probe"
    seeds = sorted({trial.seed for trial in trials}) if one_seed else [None]
    parts = []
    for seed in seeds:
        chosen = [trial for trial in trials if seed is None or trial.seed == seed]
        parts += [chosen[i : i + size] for i in range(0, len(chosen), size)]
    return parts


def choose_models_per_batch(evaluation: Evaluation, source: ModelSource, on_gpu: bool) -> int:
    """How many models are trained side by side."""
    if evaluation.compute.models_per_batch:
        return evaluation.compute.models_per_batch
    if evaluation.classifier.finetune == "frozen" or evaluation.protocol == "probe":
        return 64  # heads alone
    count = parameters(source.shape)
    if on_gpu:
        return max(1, min(32, 200_000_000 // count))
    return 5 if count <= MAX_PARAMETERS_SIDE_BY_SIDE else 1
