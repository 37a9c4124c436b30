"""The fractions that the strategies mask at the paper's centre rates, next to the paper's 15 %.

    python benchmarks/paper_mask_ratios.py [GENOME]

Prints the table of docs/masking.md: mean fraction of masked among maskable tokens, 4,000 windows of
each kind, k = 6. A rate of 0.15 / w would mask 15 % if windows of w tokens never overlapped.
"""

import sys

import numpy as np
import torch

from cmgems.data_modules.sampling import GenomeShare, WindowSampling, sample_windows
from cmgems.data_modules.windows import WindowStream
from cmgems.difficulty.markov_bits import genome_markov_bits
from cmgems.difficulty.pmi import compute_pmi_table
from cmgems.difficulty.table import rank_scores
from cmgems.genome.cache import load_genome
from cmgems.genome.spans import unambiguous_spans
from cmgems.masking.masker import Masker
from cmgems.masking.rates import CenterRates, paper_rate
from cmgems.masking.strategies import STRATEGIES
from cmgems.tokenization import OverlappingKmers
from cmgems.utils.rng import derive_key, sequence_keys

K, WINDOWS = 6, 4_000
KINDS = {
    "DNABERT's mix": WindowSampling(510, 6, 0.5),
    "505 tokens": WindowSampling(510, 510, 1.0),
    "254 tokens": WindowSampling(259, 259, 1.0),
    "64 tokens": WindowSampling(69, 69, 1.0),
}


def main() -> None:
    genome = load_genome(sys.argv[1] if len(sys.argv) > 1 else "sample")
    whole = [GenomeShare(unambiguous_spans(genome.codes))]
    rank_V = torch.from_numpy(compute_pmi_table(genome, K).rank)
    corpus_BK = OverlappingKmers(K).encode(
        torch.from_numpy(sample_windows(genome.codes, whole, 1024, 510))
    )
    markov_rank_V = torch.from_numpy(rank_scores(genome_markov_bits(genome, K)))
    solved, paper = (
        Masker(
            OverlappingKmers(K),
            rank_V,
            CenterRates(
                corpus_BK, rank_V, OverlappingKmers(K), paper=paper, markov_rank_V=markov_rank_V
            ),
        )
        for paper in (False, True)
    )
    streams = {
        kind: WindowStream(genome.codes, whole, sampling, 1) for kind, sampling in KINDS.items()
    }
    print(f"| strategy | centre rate | {' | '.join(KINDS)} | solved for 0.15 (mix) |")
    print("|" + " --- |" * (len(KINDS) + 3))
    for name in STRATEGIES:
        ratios = [mask_ratio(paper, windows, name) for windows in streams.values()]
        ratios.append(mask_ratio(solved, streams["DNABERT's mix"], name))
        cells = " | ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"| `{name}` | {paper_rate(name, OverlappingKmers(K)):.4f} | {cells} |", flush=True)


def mask_ratio(masker: Masker, windows: WindowStream, name: str) -> float:
    masked = maskable = 0
    for first in range(0, WINDOWS, 500):
        batch = windows.batch(first, 500)
        keys = sequence_keys(derive_key(0, "paper shares"), np.arange(first, first + 500))
        counts = masker(batch._replace(keys_B2=torch.from_numpy(keys)), name).counts_S2[0]
        masked, maskable = masked + int(counts[0]), maskable + int(counts[1])
    return masked / maskable


if __name__ == "__main__":
    main()
