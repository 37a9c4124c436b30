"""What each strategy hides: what it costs a Markov model, and how much of it is in repeats.

    python benchmarks/selected_bases.py [GENOME [WINDOWS]]

Prints the table of docs/masking.md: overlapping 6-mers, 15 % of the tokens masked, on the first
WINDOWS (1,024) validation windows of a genome. Bits are per hidden base, of runs of at most 6
hidden bases, by the best Markov model of the training DNA from both sides; intervals are 95 % over
windows.
"""

import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from cmgems.config.schema import Curriculum, Data, Experiment, Pmi, Validation
from cmgems.data_modules.pretraining import GenomeDataModule, ValidationWindows
from cmgems.difficulty.markov import Markov, bits_of, count_stretches, fit, predict_hidden
from cmgems.difficulty.repeats import Repeats, genome_repeats
from cmgems.genome.cache import load_genome
from cmgems.masking.masker import Masker
from cmgems.masking.packing import ALL_MASKED
from cmgems.masking.strategies import STRATEGIES
from cmgems.tokenization.hidden import runs_up_to
from cmgems.training.masks import build_masker, load_difficulty
from cmgems.utils.intervals import Interval, ratio_interval

# until a model has been asked they are others under another name
WITHOUT_A_MODEL = [name for name in STRATEGIES if name not in ("loss_adaptive", "reducible")]


class Selected(NamedTuple):
    """Hidden bases of some windows."""

    bits_N: np.ndarray  # by the Markov model, summed over the counted bases of each window
    counted_N: np.ndarray
    repeats_N: np.ndarray  # hidden bases in repeats
    hidden_N: np.ndarray
    bases_N: np.ndarray


def main() -> None:
    genome = load_genome(sys.argv[1] if len(sys.argv) > 1 else "sample")
    windows = int(sys.argv[2]) if len(sys.argv) > 2 else 1024
    repeats = genome_repeats(genome)
    model = None
    print("| strategy | bits by Markov | in repeats | hidden of all bases |")
    print("| --- | --- | --- | --- |")
    for skip_repeats in (False, True):
        experiment = Experiment(
            data=Data(genome=str(genome.path)),
            pmi=Pmi(skip_repeats=skip_repeats),
            curriculum=Curriculum(strategies=("global_pmi",)),
            validation=Validation(windows=windows),
        )
        data = GenomeDataModule(experiment, genome)
        names = ["global_pmi"] if skip_repeats else WITHOUT_A_MODEL
        masker = build_masker(experiment, data, load_difficulty(experiment, genome), names)
        model = model or fit(count_stretches(data.codes, [data.train_spans]))
        for name in names:
            batches = hidden(data, masker, name, model, repeats)
            selected = Selected(*map(np.concatenate, zip(*batches, strict=True)))
            title = f"`{name}`" + (", `pmi.skip_repeats`" if skip_repeats else "")
            bits = ratio_interval(selected.bits_N, selected.counted_N)
            share = ratio_interval(selected.repeats_N, selected.hidden_N)
            all_hidden = selected.hidden_N.sum() / selected.bases_N.sum()
            print(f"| {title} | {cell(bits)} | {cell(share)} | {all_hidden:.3f} |", flush=True)


def hidden(
    data: GenomeDataModule, masker: Masker, name: str, model: Markov, repeats: Repeats
) -> Iterator[Selected]:
    """What a strategy hides, batch by batch."""
    batches = ValidationWindows(data.codes, data.validation_windows, rank=0, ranks=1)
    for number in range(len(batches)):
        batch = batches[number]
        masked = masker(batch, name, ALL_MASKED)
        codes_BL = batch.codes_BL.numpy()
        hidden_BL = masker.tokenization.hidden_bases(masked.mask_BK, masked.maskable_BK)
        counted_BL = runs_up_to(hidden_BL, masker.tokenization.max_hidden_run).numpy()
        hidden_BL = hidden_BL.numpy()
        probability_H4 = predict_hidden(model, codes_BL, hidden_BL, counted_BL)
        bits_BL = np.zeros(codes_BL.shape)
        bits_BL[counted_BL] = bits_of(probability_H4, codes_BL[counted_BL].astype(np.int64))
        in_repeat_BL = np.zeros(codes_BL.shape, bool)
        for row, (start, bases) in enumerate(zip(batch.starts, batch.bases, strict=True)):
            in_repeat_BL[row, :bases] = repeats.holds(start, bases)
        yield Selected(
            bits_BL.sum(1),
            counted_BL.sum(1),
            (in_repeat_BL & hidden_BL).sum(1),
            hidden_BL.sum(1),
            np.array(batch.bases),
        )


def cell(interval: Interval) -> str:
    return f"{interval.mean:.3f} ±{interval.high - interval.mean:.3f}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
