"""Arithmetic and weights of an encoder, counted from its config alone.

Only matrix products count, two FLOPs for each multiplication and addition: the rest (LayerNorm,
GELU, softmax, rotations, lookups) is below 1 % of the arithmetic, and every published FLOP count
and model FLOPs utilization leaves it out. The backward pass takes twice the forward pass, one
product for the gradient of either factor; what a kernel computes a second time to save memory is
not useful work and does not count.

The last layer's queries, output projection and feed-forward run at the predicted tokens only, as
in `cmgems.models.encoder`; its keys and values, or its convolution, run at all of them. A local
layer counts the pairs of tokens that attend to each other, whatever is computed beside them.
"""

from typing import NamedTuple

from cmgems.models.blocks import MLPS
from cmgems.models.encoder import EncoderConfig

FORWARD_AND_BACKWARD = 3  # times the forward pass


class ForwardFlops(NamedTuple):
    """Mean FLOPs of a forward pass for each token of a sequence, by what they are spent on."""

    convolutions: float  # layers of them, and the one in front of the layers
    projections: float  # query, key, value and output of attention
    attention: float  # scores and weighted sums
    feed_forward: float
    head: float  # prediction head, logits included

    @property
    def total(self) -> float:
        return sum(self)


def forward_flops_per_token(config: EncoderConfig, tokens: float, masked: float) -> ForwardFlops:
    """FLOPs of a forward pass, per token.

    Parameters
    ----------
    config : EncoderConfig
    tokens : float
        Tokens of a sequence, [CLS] and [SEP] included. For sequences of several lengths the mean
        over *tokens* of the length of their sequence: sum(n * n) / sum(n); exact but for local
        layers.
    masked : float
        Share of all tokens, [CLS] and [SEP] included, that are predicted.
    """
    width, full = config.hidden_size, config.num_layers - 1  # the layers that run at every token
    layers = full + masked  # in parts that the last layer computes at predicted tokens alone
    attending = [n for n in range(config.num_layers) if config.conv_dilation(n) is None]
    share = {n: masked if n == full else 1.0 for n in attending}  # of the tokens with a query
    queries = sum(share.values())
    seen = sum(share[n] * seen_tokens(tokens, config.reach(n)) for n in attending)
    convolved = config.conv_stem + config.conv_kernel * (config.num_layers - len(attending))
    return ForwardFlops(
        convolutions=2 * convolved * width * width,
        projections=2 * width * width * (2 * len(attending) + 2 * queries),
        attention=4 * width * seen,
        feed_forward=2 * MLPS[config.mlp].matrices * width * config.intermediate_size * layers,
        head=masked * 2 * width * (width + config.vocab_size),
    )


def seen_tokens(tokens: float, reach: int | None) -> float:
    """How many tokens a token of a sequence of so many sees, in the mean, itself included.

    reach : most tokens to each side; None: all
    """
    if reach is None or reach >= tokens - 1:
        return tokens
    # All but the `reach` tokens at either end see that many to both sides.
    return 1 + 2 * reach - reach * (reach + 1) / tokens


def attention_layers(config: EncoderConfig) -> int:
    """How many layers attend; the others are convolutions."""
    return sum(config.conv_dilation(layer) is None for layer in range(config.num_layers))


def flops_per_token(config: EncoderConfig, tokens: float, masked: float) -> float:
    """FLOPs of a training step, forward and backward, per token; parameters as above."""
    return FORWARD_AND_BACKWARD * forward_flops_per_token(config, tokens, masked).total


def parameters(config: EncoderConfig) -> int:
    """Weights of a `MaskedLanguageModel`; tied output weights count once."""
    width, bias = config.hidden_size, int(config.biases)
    norm = width * (1 + bias)
    square = width * width + bias * width  # a linear map from width to width
    pre = config.norm == "pre"
    embeddings = config.vocab_size * width + norm * config.embedding_norm
    if config.position_embedding == "learned":
        embeddings += config.max_position_embeddings * width
    if config.conv_stem:
        embeddings += config.conv_stem * width * width + bias * width
    inner, matrices = config.intermediate_size, MLPS[config.mlp].matrices
    up, down = config.feed_forward_biases
    feed_forward = matrices * width * inner + up * (matrices - 1) * inner + down * width
    attending = attention_layers(config)
    convolution = config.conv_kernel * width * width + bias * width
    layers = config.num_layers * (feed_forward + 2 * norm)
    layers += attending * 4 * square + (config.num_layers - attending) * convolution
    if pre and config.embedding_norm and config.num_layers:
        layers -= norm  # the first layer's input is normalized already
    untied = 0 if config.tie_embeddings else config.vocab_size * width
    return embeddings + layers + norm * pre + square + norm + config.vocab_size + untied
