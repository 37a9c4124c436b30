"""K-mer counts against a slow reference."""

import numpy as np
import pytest
from reference_pmi import reference_counts

from cmgems.kmer_counts import count_kmers

LETTERS = np.frombuffer(b"ATCGN", np.uint8)


def random_codes(seed: int, size: int, share_n: float = 0.01) -> np.ndarray:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, size, dtype=np.uint8)
    codes[rng.random(size) < share_n] = 4
    return codes


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("k", [1, 2, 3, 6, 8, 10])
def test_counts_are_those_of_the_reference(k, threads):
    codes = random_codes(k, 3001)
    sequence = LETTERS[codes].tobytes().decode()
    found = count_kmers(codes, k, threads=threads)
    assert found.dtype == np.int64
    assert found.tolist() == reference_counts([sequence], k)


def test_the_index_is_the_token_id_less_five():
    # AAAAAA = 5, AAAAAT = 6, AAAAAC = 7, AAAAAG = 8, AAAATA = 9
    for offset, last_two in enumerate([(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]):
        counts = count_kmers(np.array([0, 0, 0, 0, *last_two], np.uint8), 6)
        assert np.flatnonzero(counts).tolist() == [offset]
