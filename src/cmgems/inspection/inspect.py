"""`cmgems inspect`: what the masks of an experiment do to real sequence, computed.

The page that shows it is made in `cmgems.inspection.page`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from cmgems.config.schema import Experiment
from cmgems.curriculum.schedule import plan_at, stage_position
from cmgems.data_modules.windows import WindowBatch
from cmgems.errors import UserError
from cmgems.genome.genome import Genome
from cmgems.genome.names import piece_of
from cmgems.genome.region import Region, parse_region
from cmgems.masking.mask_statistics import MaskStatistics, mask_statistics, rank_fractions
from cmgems.masking.masker import Masker, MaskingPlan
from cmgems.masking.strategies import STRATEGIES, wants_kmers
from cmgems.tokenization import BytePairs, Tokenization
from cmgems.utils.rng import derive_key, sequence_keys

DRAWS = 100
STATISTICS_WINDOWS = 500  # masked for the statistics
NUM_SCHEDULE_SAMPLES = 5  # steps of the curriculum that are shown
MAX_REGION = 100_000  # bases
DEFAULT_REGION = 5_100


class MaskSample(NamedTuple):
    """One way of masking on the region's windows."""

    title: str
    statistics: MaskStatistics  # over all windows and draws
    mask_K: np.ndarray  # bool: the first window in one draw
    masked_L: np.ndarray  # bool: its bases under masked tokens
    hidden_L: np.ndarray  # bool: its hidden bases
    mask_frequency_K: np.ndarray  # fraction of draws that mask each token of the first window
    rank_masked: np.ndarray  # ranks (0 to 1) of masked tokens, over all windows and draws


class Inspection(NamedTuple):
    """All that the page shows."""

    experiment: Experiment
    tokenization: Tokenization
    genome: str
    region: Region
    window_L: np.ndarray  # uint8, the window whose bases are shown
    rank_K: np.ndarray  # ranks of its tokens, 0 to 1; nan for what has no k-mer
    rank_all: np.ndarray  # ranks of all k-mers of the region
    windows: int  # that the region is cut in
    strategies: list[MaskSample]
    schedule_samples: list[tuple[int, MaskSample]]  # step, and how it masks
    progress: np.ndarray  # where among the strategies each of 0 .. max_steps - 1 is
    switches_known: bool  # False where the switches depend on the run


def inspect(experiment: Experiment, genome: Genome, masker: Masker, region: Region) -> Inspection:
    """Mask a region of a genome in every way, many times."""
    windows = _windows(region.codes(genome), experiment.data.window_length)
    has_ngrams = isinstance(masker.tokenization, BytePairs)
    names = [name for name in STRATEGIES if not (has_ngrams and wants_kmers(name))]
    names += [name for name in experiment.curriculum.strategies if name not in STRATEGIES]
    tokenization = masker.tokenization
    ids_BK = tokenization.encode(windows.codes_BL)
    rank_BK = rank_fractions(ids_BK, masker.rank_V, tokenization)
    curriculum, max_steps = experiment.curriculum, experiment.train.max_steps
    switches_known = curriculum.schedule != "plateau"
    switches = () if switches_known else _evenly(len(curriculum.strategies), max_steps)
    seed = experiment.seed
    places = [stage_position(curriculum, t, max_steps, switches, seed) for t in range(max_steps)]
    return Inspection(
        experiment=experiment,
        tokenization=tokenization,
        genome=genome.name,
        region=region,
        window_L=windows.codes_BL[0].numpy(),
        rank_K=rank_BK[0].numpy(),
        rank_all=rank_BK[~rank_BK.isnan()].numpy(),
        windows=len(ids_BK),
        strategies=[_mask_sample(name, _plan(masker, name), windows, masker) for name in names],
        schedule_samples=_schedule_samples(experiment, switches, windows, masker),
        progress=np.array(places),
        switches_known=switches_known,
    )


def _plan(masker: Masker, name: str) -> MaskingPlan:
    return MaskingPlan((name,), params=masker.params)


def _evenly(stages: int, max_steps: int) -> list[int]:
    """Switches for the plot of a curriculum whose real ones only the run will know."""
    return [max_steps * stage // stages for stage in range(1, stages)]


def _schedule_samples(
    experiment: Experiment, switches: Sequence[int], windows: WindowBatch, masker: Masker
) -> list[tuple[int, MaskSample]]:
    """The curriculum at some steps, the first among them; equal ones once."""
    max_steps = experiment.train.max_steps
    samples: list[tuple[int, MaskSample]] = []
    previous = None
    steps = np.linspace(0, max_steps - 1, NUM_SCHEDULE_SAMPLES).round().astype(int)
    for step in np.unique(steps).tolist():
        plan = plan_at(
            experiment.curriculum, experiment.masking, step, max_steps, switches, experiment.seed
        )
        if plan == previous:
            continue
        previous, title = plan, " + ".join(plan.strategies)
        if len(plan.strategies) == 2:
            title = f"{title}, {plan.second_probability:.0%} of the sequences by the second"
        samples.append((step, _mask_sample(title, plan, windows, masker)))
    return samples


def _mask_sample(title: str, plan: MaskingPlan, windows: WindowBatch, masker: Masker) -> MaskSample:
    count = len(windows.bases)
    tokenization = masker.tokenization
    ids_BK = tokenization.encode(windows.codes_BL)
    rank_BK = rank_fractions(ids_BK, masker.rank_V, tokenization)
    ranked_BK = ~rank_BK.isnan()
    count_K, ranks = np.zeros(ids_BK.shape[1]), []
    for number in range(DRAWS):
        keys = sequence_keys(derive_key(number, "inspection"), np.arange(count))
        mask_BK = masker(windows._replace(keys_B2=torch.from_numpy(keys)), plan).mask_BK
        if number == 0:
            shown_BK = mask_BK
        count_K += mask_BK[0].numpy()
        ranks.append(rank_BK[mask_BK & ranked_BK].numpy())
    maskable_BK, width = tokenization.is_maskable(ids_BK), windows.codes_BL.shape[1]
    hidden_BL = tokenization.hidden_bases(shown_BK, maskable_BK, ids_BK, width)
    masked_BL = tokenization.bases_of_tokens(shown_BK, ids_BK, width)
    return MaskSample(
        title=title,
        statistics=_statistics(windows, ids_BK, plan, masker),
        mask_K=shown_BK[0].numpy(),
        masked_L=masked_BL[0].numpy(),
        hidden_L=hidden_BL[0].numpy(),
        mask_frequency_K=count_K / DRAWS,
        rank_masked=np.concatenate(ranks),
    )


def _statistics(
    windows: WindowBatch, ids_BK: torch.Tensor, plan: MaskingPlan, masker: Masker
) -> MaskStatistics:
    """Over several draws at once: the batch has the windows once per draw."""
    draws = max(1, STATISTICS_WINDOWS // len(ids_BK))
    codes_BL = windows.codes_BL.repeat(draws, 1)
    keys = sequence_keys(derive_key(0, "inspection"), np.arange(len(codes_BL)))
    batch = WindowBatch(codes_BL, windows.bases * draws, torch.from_numpy(keys))
    mask_BK = masker(batch, plan).mask_BK
    ids_BK = ids_BK.repeat(draws, 1)
    return mask_statistics(codes_BL, ids_BK, mask_BK, masker.rank_V, masker.tokenization)


def _windows(codes: np.ndarray, window: int) -> WindowBatch:
    """The consecutive full windows of a region, or itself where it is shorter."""
    length = min(window, len(codes))
    count = len(codes) // length
    codes = np.array(codes[: count * length]).reshape(count, length)
    keys = torch.zeros(count, 2, dtype=torch.int32)
    return WindowBatch(torch.from_numpy(codes), (length,) * count, keys)


def find_region(genome: Genome, text: str, tokenization: Tokenization) -> Region:
    """The region that a user names (see `parse_region`), or a default one.

    Raises
    ------
    UserError
        If the genome does not have it, or it is too long or too short.
    """
    region = parse_region(genome, text) if text else _default_region(genome)
    codes = region.codes(genome)
    if len(codes) > MAX_REGION:
        raise UserError(f"region: found {text!r}, wanted 1 to {MAX_REGION:,} bases")
    if len(codes) < tokenization.min_bases or (codes > 3).all():
        raise UserError(f"region: {region.name} has no {tokenization.token}, wanted known bases")
    return region


def _default_region(genome: Genome) -> Region:
    """The middle of the contig with the most known bases."""
    contig = max(genome.contigs, key=lambda c: c.length - c.n_count)
    length = min(DEFAULT_REGION, contig.length)
    start = contig.length // 2 - length // 2
    chromosome, offset = piece_of(contig.name)
    return Region(contig, start, start + length, chromosome if offset else "", offset)
