"""Sequences shuffled so that each pair of neighbouring bases stays as frequent as it was.

Altschul and Erickson, "Significance of nucleotide sequence alignments", Molecular Biology and
Evolution 2 (1985) 526-538. A sequence is a walk over the bases; its pairs are the edges of a
multigraph, and each Eulerian walk from the first base to the last is a shuffle. A walk is made by
drawing, for each base but the last one of the sequence, which of its edges is left over it for the
last time; if these edges lead to the last base from everywhere, all other edges may be put in
any order, and all walks are equally likely.
"""

import numpy as np

from cmgems.utils.kernels import kernel

STATES = 5  # A T C G and N


def dinucleotide_shuffled(codes: np.ndarray, seed: int) -> np.ndarray:
    """A sequence with the same dinucleotide counts, first and last base; uniform over all of them.

    Parameters
    ----------
    codes : uint8 [L], base codes 0 to 4
    seed : 64 bits; the same seed gives the same shuffle

    Returns
    -------
    uint8 [L]
    """
    if len(codes) < 4:
        return codes.copy()  # its pairs allow no other order
    return _shuffle(np.ascontiguousarray(codes), np.uint64(seed & (1 << 64) - 1))


@kernel
def _next(state: np.ndarray) -> np.uint64:
    """splitmix64 (Steele, Lea, Flood, OOPSLA 2014): advances state[0], returns 64 random bits."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    x = state[0]
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@kernel
def _below(state: np.ndarray, bound: int) -> np.int64:
    """A whole number, uniform in 0 .. bound - 1 (bound below 2**31: the bias is below 2**-33)."""
    return np.int64((_next(state) >> np.uint64(32)) * np.uint64(bound) >> np.uint64(32))


@kernel
def _reach_last(
    edges: np.ndarray, first: np.ndarray, counts: np.ndarray, chosen: np.ndarray, last: int
) -> bool:
    """Whether the chosen edges lead from every base that has edges to the last one."""
    for base in range(STATES):
        if base == last or counts[base] == 0:
            continue
        at, steps = base, 0
        while at != last and steps <= STATES:
            at = edges[first[at] + chosen[at]]
            steps += 1
        if at != last:
            return False
    return True


@kernel
def _shuffle(codes: np.ndarray, seed: np.uint64) -> np.ndarray:
    n = len(codes)
    state = np.array([seed], np.uint64)
    counts = np.zeros(STATES, np.int64)
    for i in range(n - 1):
        counts[codes[i]] += 1
    first = np.zeros(STATES + 1, np.int64)
    for base in range(STATES):
        first[base + 1] = first[base] + counts[base]
    # edges[first[b] : first[b + 1]]: the bases that follow b, in the order of the sequence
    edges = np.empty(n - 1, np.uint8)
    filled = first[:STATES].copy()
    for i in range(n - 1):
        edges[filled[codes[i]]] = codes[i + 1]
        filled[codes[i]] += 1
    last = codes[n - 1]
    chosen = np.zeros(STATES, np.int64)
    while True:
        for base in range(STATES):
            if counts[base] > 0:
                chosen[base] = _below(state, counts[base])
        if _reach_last(edges, first, counts, chosen, last):
            break
    for base in range(STATES):
        stop = first[base + 1]
        if counts[base] > 0 and base != last:
            # the chosen edge is the last to be used
            picked = first[base] + chosen[base]
            edges[picked], edges[stop - 1] = edges[stop - 1], edges[picked]
            stop -= 1
        for i in range(stop - 1, first[base], -1):
            j = first[base] + _below(state, i - first[base] + 1)
            edges[i], edges[j] = edges[j], edges[i]
    out = np.empty(n, np.uint8)
    used = first[:STATES].copy()
    out[0] = codes[0]
    for i in range(1, n):
        previous = out[i - 1]
        out[i] = edges[used[previous]]
        used[previous] += 1
    return out
