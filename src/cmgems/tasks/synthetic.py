"""Tasks whose examples are made: silencers against half-replaced ones, human against shuffled."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cmgems.config.schema import Data
from cmgems.errors import UserError
from cmgems.genome.cache import load_genome
from cmgems.genome.formats.reader import read_sequences
from cmgems.genome.spans import hold_out_blocks, unambiguous_spans
from cmgems.tasks.dataset import LabelledSequences, from_codes
from cmgems.tasks.readers import ReadOptions
from cmgems.tasks.shuffling import dinucleotide_shuffled
from cmgems.utils.rng import derive_key, generator

MAX_SILENCER_LENGTH = 300  # bases; SilencerDB has few longer ones
PARTS, REPLACED = 20, 12
WINDOW = 200  # bases of an example of `shuffled`
DEV_EVERY = 10  # every tenth of its training regions is for dev
REGION = 20_000  # bases


def replace_stretches(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A negative as the authors of CM-GEMS made theirs.

    12 stretches of a 20th of the sequence are overwritten by random bases, one after the other.
    A stretch begins at a uniform position (in their code; their text says that 12 of 20 parts are
    replaced), so stretches overlap, and about 0.95**12 = 54 % of
    the bases stay as they were (in their text, 40 %).
    """
    codes = codes.copy()
    size = len(codes) // PARTS
    for _ in range(REPLACED):
        bases = rng.integers(0, 4, size, dtype=np.uint8)
        start = int(rng.integers(0, len(codes) - size))
        codes[start : start + size] = bases
    return codes


def read_silencers(paths: Sequence[Path], options: ReadOptions) -> LabelledSequences:
    """Each positive of a sequence file, of at most 300 bases, followed by its negative.

    The two have the name of the positive. The same file gives the same negatives.
    """
    rng = generator(0, "silencer negatives")
    examples, names = [], []
    for name, codes in read_sequences(paths[0]):
        if not max(PARTS, options.min_length) <= len(codes) <= MAX_SILENCER_LENGTH:
            continue
        examples += [codes, replace_stretches(codes, rng)]
        names += [name, name]
    if not examples:
        raise UserError(
            f"{paths[0]}: has no sequence of {max(PARTS, options.min_length)} to "
            f"{MAX_SILENCER_LENGTH} bases, wanted silencers"
        )
    return from_codes(examples, np.tile([1, 0], len(examples) // 2), tuple(names))


def make_human_and_shuffled(split: str) -> LabelledSequences:
    """Windows of the sample genome (label 1), each followed by itself shuffled (label 0).

    A window and its shuffled copy have the same dinucleotides, so no count of them tells the two
    apart. The test windows are from the regions that pretraining on the sample holds out for
    validation (at the default data.validation_fraction), so no model has seen them.
    """
    codes = load_genome("sample").codes
    starts = _window_starts(codes, split)
    examples = []
    for start in starts.tolist():
        window = np.array(codes[start : start + WINDOW])
        seed = derive_key(start, "dinucleotide shuffle")
        examples += [window, dinucleotide_shuffled(window, seed)]
    return from_codes(examples, np.tile([1, 0], len(starts)))


def _window_starts(codes: np.ndarray, split: str) -> np.ndarray:
    """Where the windows of a split begin: end to end in its regions, thinned for train and dev."""
    data = Data()
    train, test = hold_out_blocks(
        unambiguous_spans(codes), len(codes), data.validation_fraction, data.validation_block
    )
    spans = test if split == "test" else train
    starts = np.concatenate(
        [
            np.arange(start, end - WINDOW + 1, WINDOW)
            for start, end in zip(spans.start.tolist(), spans.end.tolist(), strict=True)
        ]
    )
    if split == "test":
        return starts
    # A window over the edge of a region would be in two splits.
    starts = starts[starts // REGION == (starts + WINDOW - 1) // REGION]
    dev = starts // REGION % DEV_EVERY == 0
    return starts[dev][::4] if split == "dev" else starts[~dev][::6]


# format of `Files` -> makes the examples of a split, without files or from files
MAKERS: dict[str, Callable[[str], LabelledSequences]] = {"shuffled": make_human_and_shuffled}
FROM_FILES: dict[str, Callable[[Sequence[Path], ReadOptions], LabelledSequences]] = {
    "replaced": read_silencers
}
