"""Initialisations of the plain BERT architecture.

`bert` is the usual one. `fast_start` gives the same architecture a head start on what every k-mer
model has to find out first: which bases a k-mer consists of, and where its neighbours are. Overlap
with visible neighbours decides most masked k-mers, but a model with the usual initialisation sits
at the unigram entropy for millions of tokens before it finds that. It stays a plain BERT.

Its parts, each of which an experiment can leave out (`model.fast_start`):

embeddings  a k-mer is the sum of one vector for each base at each offset, in one half of the width;
            without: a random vector of the same size
positions   sinusoids, in the other half; without: random vectors of the same size
heads       queries and keys read the sinusoids, the query turned by a fixed offset: each head looks
            at one neighbour, offsets -1 +1 -3 +3 ... in odd layers, -2 +2 -4 +4 ... in even ones;
            without: BERT's
transport   value and output weights so large that what is fetched arrives with the variance of what
            is there; without: BERT's

Nothing but `AMPLITUDE`, `NOISE` and the range of periods is a choice. The rest follows from widths,
heads, layers and k: the weights of the heads from `FOCUS` (`_gain`), the transport from the width.
"""

import math

import torch
from scipy.optimize import brentq
from torch import Tensor

from cmgems.config.encoders import FastStart, Model, fast_start_problem
from cmgems.errors import UserError
from cmgems.models.encoder import Encoder, Layer, MaskedLanguageModel, initialize_bert
from cmgems.models.mixers import SelfAttention
from cmgems.models.positions import Learned
from cmgems.tokenization.base import FIRST_TOKEN, Tokenization
from cmgems.tokenization.kmers import OverlappingKmers

AMPLITUDE = 0.08  # of a k-mer's base part and of a sinusoid, 4 times BERT's deviation
NOISE = 0.016  # tells apart k-mers beyond the sum of their bases
SHORTEST_PERIOD, LONGEST_PERIOD = 3.0, 64.0  # tokens
FOCUS = 0.97  # share of its attention that a head gives the token at its offset
REACH = 256  # tokens to each side, among which it finds it
LARGEST_GAIN = 16.0  # for a head with so few frequencies that none makes it reach `FOCUS`


def initialize(model: MaskedLanguageModel, settings: Model, tokenization: Tokenization) -> None:
    """Initialize in place from torch's global generator, as `settings.init` says.

    Raises
    ------
    UserError
        If the fast start is wanted for other blocks than BERT's.
    """
    initialize_bert(model)
    if settings.init == "fast_start":
        problem = fast_start_problem(settings)
        if problem:
            raise UserError(problem)
        fast_start(model.encoder, tokenization, settings.fast_start)


@torch.no_grad()
def fast_start(encoder: Encoder, tokenization: Tokenization, parts: FastStart) -> None:
    """Overwrite BERT's initial weights; see the head of this module.

    Raises
    ------
    UserError
        If the tokens do not overlap: then there are no neighbours to copy from.
    """
    if not isinstance(tokenization, OverlappingKmers):
        raise UserError(
            f"model.init: found fast_start, which is made for overlapping k-mers, and tokens that "
            f"are {tokenization.description}; wanted model.init: bert"
        )
    width = encoder.config.hidden_size
    half = width // 2
    frequencies = _frequencies(half // 2)
    _write_kmers(encoder.tokens.weight, tokenization, half, parts.embeddings)
    assert isinstance(encoder.positions, Learned)
    _write_positions(encoder.positions.weight, frequencies, half, parts.positions)
    for number, layer in enumerate(encoder.layers):
        assert isinstance(layer, Layer)
        assert isinstance(layer.mixer, SelfAttention)
        if parts.transport:
            # Variance 1 in (behind a LayerNorm), variance 1 out.
            layer.mixer.key_value.weight[width:].normal_(std=width**-0.5)
            layer.mixer.output.weight.normal_(std=width**-0.5)
        if parts.heads:
            _aim_heads(layer.mixer, frequencies, half, first_offset=1 + number % 2)


def _write_kmers(
    weight_VD: Tensor, tokenization: OverlappingKmers, half: int, composed: bool
) -> None:
    weight_VD.normal_(std=NOISE)
    kmers_VD = weight_VD[FIRST_TOKEN:, :half]
    if not composed:
        kmers_VD += torch.randn(len(kmers_VD), half) * AMPLITUDE
        return
    codes_KV = tokenization.codes_of_tokens()
    base_KBD = torch.randn(len(codes_KV), 4, half) * (AMPLITUDE / math.sqrt(len(codes_KV)))
    for base_BD, codes_V in zip(base_KBD, codes_KV, strict=True):
        kmers_VD += base_BD[codes_V]


def _frequencies(count: int) -> Tensor:
    """Radians a token, periods spaced evenly in their logarithm."""
    periods = torch.logspace(math.log10(SHORTEST_PERIOD), math.log10(LONGEST_PERIOD), count)
    return 2 * math.pi / periods


def _write_positions(weight_SD: Tensor, frequencies: Tensor, half: int, sinusoids: bool) -> None:
    weight_SD.zero_()
    if not sinusoids:
        weight_SD[:, half:].normal_(std=AMPLITUDE / math.sqrt(2))
        return
    angle_SF = torch.arange(len(weight_SD))[:, None] * frequencies
    weight_SD[:, half : half + 2 * len(frequencies) : 2] = AMPLITUDE * angle_SF.sin()
    weight_SD[:, half + 1 : half + 2 * len(frequencies) : 2] = AMPLITUDE * angle_SF.cos()


def _aim_heads(attention: SelfAttention, frequencies: Tensor, half: int, first_offset: int) -> None:
    """Add to queries and keys what makes head h attend to the token at its offset."""
    head_width = attention.query.weight.shape[0] // attention.num_heads
    pairs = torch.arange(head_width // 2)
    for head in range(attention.num_heads):
        offset = (first_offset + 2 * (head // 2)) * (-1 if head % 2 == 0 else 1)
        # Each head reads its own evenly spread choice of the frequencies.
        chosen = (pairs * len(frequencies) // len(pairs) + head) % len(frequencies)
        sine, cosine = half + 2 * chosen, half + 2 * chosen + 1
        row = head * head_width + 2 * pairs
        turn, gain = frequencies[chosen] * offset, _gain(frequencies[chosen])
        key = attention.key_value.weight
        key[row, sine] += gain
        key[row + 1, cosine] += gain
        query = attention.query.weight  # sin(x + turn) and cos(x + turn)
        query[row, sine] += gain * turn.cos()
        query[row, cosine] += gain * turn.sin()
        query[row + 1, cosine] += gain * turn.cos()
        query[row + 1, sine] -= gain * turn.sin()


def _gain(frequencies: Tensor) -> float:
    """The weight on the sinusoids with which a head of these frequencies reaches `FOCUS`.

    Behind the embeddings' LayerNorm a sinusoid's squared amplitude is `AMPLITUDE`**2 over the mean
    variance; the score of a token at distance d from the wanted one is then
    gain**2 * squared * sum(cos(frequency * d)) / sqrt(head width).
    """
    squared = AMPLITUDE**2 / (0.75 * AMPLITUDE**2 + NOISE**2)
    distance = torch.arange(-REACH, REACH + 1, dtype=torch.float64)
    curve = torch.cos(frequencies.double()[:, None] * distance).sum(0)
    curve *= squared / math.sqrt(2 * len(frequencies))

    def missing(gain: float) -> float:
        return FOCUS - float(torch.softmax(gain**2 * curve, 0)[REACH])

    return LARGEST_GAIN if missing(LARGEST_GAIN) > 0 else brentq(missing, 0.0, LARGEST_GAIN)
