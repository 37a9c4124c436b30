"""n-grams of token ids as whole numbers: the ids side by side, in as many bits as an id needs.

The special ids are below 5 and in no n-gram, so a longer n-gram has the larger key.
"""

MAX_TOKENS = 5  # of the longest n-gram: as many as PMI-Masking has


def key_bits(vocab_size: int) -> int:
    """Bits of one id."""
    return max(vocab_size - 1, 1).bit_length()


def max_tokens(vocab_size: int) -> int:
    """Tokens of the longest n-gram whose key fits into 63 bits."""
    return min(MAX_TOKENS, 63 // key_bits(vocab_size))
