"""The checksum of a contig against its definition, for any cuts."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems.genome.checksum import CodesHash, hash_codes


def by_definition(codes):
    """The definition in the docstring of CodesHash, in plain Python."""
    padded = [*codes, *[0] * (-len(codes) % 4)]
    fours = zip(*[iter(code & 3 for code in padded)] * 4, strict=True)
    packed = bytes(a << 6 | b << 4 | c << 2 | d for a, b, c, d in fours)
    turns, before = [], False
    for position, code in enumerate([*codes, 0]):
        if (code == 4) != before:
            turns.append(position.to_bytes(8, "little"))
            before = code == 4
    parts = hashlib.sha256(packed).digest() + hashlib.sha256(b"".join(turns)).digest()
    return hashlib.sha256(parts + len(codes).to_bytes(8, "little")).hexdigest()


@settings(deadline=None)  # the first example compiles
@given(st.lists(st.integers(0, 4), max_size=300), st.lists(st.integers(0, 90), max_size=40))
def test_equals_its_definition_for_any_cuts(codes, cuts):
    total, first = CodesHash(), 0
    array = np.array(codes, np.uint8)
    for size in [*cuts, len(codes)]:
        total.update(array[first : first + size])
        first += size
    assert total.hexdigest() == by_definition(codes) == hash_codes(array)


def test_real_dna_with_and_without_a_gap(genome):
    codes = np.array(genome.codes[:200_003])
    assert hash_codes(codes) == by_definition(codes.tolist())
    codes[150_000:150_100] = 4
    assert hash_codes(codes) == by_definition(codes.tolist())


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: np.append(c, np.uint8(0))])
def test_length_and_ambiguity_count(change):
    """Packed, an N is an A and the end is filled up with A: the digest tells them apart."""
    codes = np.zeros(13, np.uint8)
    assert hash_codes(change(codes)) != hash_codes(codes)
    for position in range(13):
        other = codes.copy()
        other[position] = 4
        assert hash_codes(other) != hash_codes(codes)


def test_a_byte_that_is_no_code_changes_the_checksum():
    """Its two low bits are a base: what is above them must not be lost."""
    codes = np.tile(np.array([0, 3, 1, 2, 4], np.uint8), 40)
    whole = hash_codes(codes)
    for position in (0, 4, 63, 64, 130, 197, 199):
        for high in range(4, 256, 4):
            damaged = codes.copy()
            damaged[position] = high | (codes[position] & 3)
            if damaged[position] != codes[position]:
                assert hash_codes(damaged) != whole, (position, damaged[position])
