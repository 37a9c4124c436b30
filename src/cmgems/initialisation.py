"""Initialisations of the plain BERT architecture.

`bert` is the usual one. `fast_start` gives the same architecture a head start on what every k-mer
model has to find out first: which bases a k-mer consists of, and where its neighbours are. Overlap
with visible neighbours decides most masked k-mers, but a model with the usual initialisation sits
at the unigram entropy for millions of tokens before it finds that. It stays a plain BERT.

1. K-mer embeddings are sums of one vector for each base at each offset, in one half of the width.
2. Position embeddings are sinusoids, in the other half.
3. Queries and keys read the sinusoids, the query turned by a fixed offset: each head looks at one
   neighbour, offsets -1 +1 -3 +3 ... in odd layers, -2 +2 -4 +4 ... in even ones.
4. Value and output weights are larger, so that what is fetched arrives.
"""

import math

import torch
from torch import Tensor

from cmgems.encoder import Encoder, Layer, MaskedLanguageModel, initialise_bert
from cmgems.kmers import FIRST_KMER

AMPLITUDE = 0.08  # of a k-mer's base part and of a sinusoid, about 4 times BERT's deviation
NOISE = 0.016  # tells apart k-mers beyond the sum of their bases
SHORTEST_PERIOD, LONGEST_PERIOD = 3.0, 64.0  # tokens
GAIN = 2.0  # of the queries and keys on the sinusoids
TRANSPORT = 4.0  # of value and output weights, over BERT's deviation


def initialise(model: MaskedLanguageModel, how: str, k: int) -> None:
    """Initialise in place from torch's global generator; `how` is "bert" or "fast_start"."""
    initialise_bert(model)
    if how == "fast_start":
        fast_start(model.encoder, k)


@torch.no_grad()
def fast_start(encoder: Encoder, k: int) -> None:
    """Overwrite BERT's initial weights; see the head of this module."""
    width = encoder.shape.width
    half = width // 2
    _compose_kmers(encoder.tokens.weight, k, half)
    frequencies = _frequencies(half // 2)
    _write_sinusoids(encoder.positions.weight, frequencies, half)
    for number, layer in enumerate(encoder.layers):
        layer.key_value.weight[width:] *= TRANSPORT
        layer.output.weight *= TRANSPORT
        _aim_heads(layer, frequencies, half, first_offset=1 + number % 2)


def _compose_kmers(weight_VD: Tensor, k: int, half: int) -> None:
    base_KBD = torch.randn(k, 4, half) * (AMPLITUDE / math.sqrt(k))
    index_V = torch.arange(4**k)
    weight_VD.normal_(std=NOISE)
    for offset in range(k):
        base_V = (index_V >> 2 * (k - 1 - offset)) & 3
        weight_VD[FIRST_KMER:, :half] += base_KBD[offset, base_V]


def _frequencies(count: int) -> Tensor:
    """Radians a token, periods spaced evenly in their logarithm."""
    periods = torch.logspace(math.log10(SHORTEST_PERIOD), math.log10(LONGEST_PERIOD), count)
    return 2 * math.pi / periods


def _write_sinusoids(weight_SD: Tensor, frequencies: Tensor, half: int) -> None:
    angle_SF = torch.arange(len(weight_SD))[:, None] * frequencies
    weight_SD.zero_()
    weight_SD[:, half : half + 2 * len(frequencies) : 2] = AMPLITUDE * angle_SF.sin()
    weight_SD[:, half + 1 : half + 2 * len(frequencies) : 2] = AMPLITUDE * angle_SF.cos()


def _aim_heads(layer: Layer, frequencies: Tensor, half: int, first_offset: int) -> None:
    """Add to queries and keys what makes head h attend to the token at its offset."""
    head_width = layer.query.weight.shape[0] // layer.heads
    pairs = torch.arange(head_width // 2)
    for head in range(layer.heads):
        offset = (first_offset + 2 * (head // 2)) * (-1 if head % 2 == 0 else 1)
        # Each head reads its own evenly spread choice of the frequencies.
        chosen = (pairs * len(frequencies) // len(pairs) + head) % len(frequencies)
        sine, cosine = half + 2 * chosen, half + 2 * chosen + 1
        row = head * head_width + 2 * pairs
        turn = frequencies[chosen] * offset
        key = layer.key_value.weight
        key[row, sine] += GAIN
        key[row + 1, cosine] += GAIN
        query = layer.query.weight  # sin(x + turn) and cos(x + turn)
        query[row, sine] += GAIN * turn.cos()
        query[row, cosine] += GAIN * turn.sin()
        query[row + 1, cosine] += GAIN * turn.cos()
        query[row + 1, sine] -= GAIN * turn.sin()
