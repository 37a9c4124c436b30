"""Arithmetic and weights of an encoder, counted from its sizes alone.

Only matrix products count, two FLOPs for each multiplication and addition: the rest (LayerNorm,
GELU, softmax, lookups) is below 1 % of the arithmetic, and every published FLOP count and model
FLOPs utilisation leaves it out. The backward pass takes twice the forward pass, one product for
the gradient of either factor; what a kernel computes a second time to save memory is not useful
work and does not count.

The last layer's queries, output projection and feed-forward run at the predicted tokens only, as
in `cmgems.models.encoder`; its keys and values run at all of them.
"""

from typing import NamedTuple

from cmgems.models.encoder import EncoderConfig

FORWARD_AND_BACKWARD = 3  # times the forward pass


class ForwardFlops(NamedTuple):
    """Mean FLOPs of a forward pass for each token of a sequence, by what they are spent on."""

    projections: float  # query, key, value and output of attention
    attention: float  # scores and weighted sums
    feed_forward: float
    head: float  # prediction head, logits included

    @property
    def total(self) -> float:
        return sum(self)


def forward_flops_per_token(shape: EncoderConfig, tokens: float, masked: float) -> ForwardFlops:
    """FLOPs of a forward pass, per token.

    Parameters
    ----------
    shape : EncoderConfig
    tokens : float
        Tokens of a sequence, [CLS] and [SEP] included. For sequences of several lengths the mean
        over *tokens* of the length of their sequence: sum(n * n) / sum(n).
    masked : float
        Share of all tokens, [CLS] and [SEP] included, that are predicted.
    """
    width, full = shape.hidden_size, shape.num_layers - 1  # the layers that run at every token
    reach = full + masked  # of the parts that the last layer computes at predicted tokens
    return ForwardFlops(
        projections=2 * width * width * (2 * shape.num_layers + 2 * reach),
        attention=4 * tokens * width * reach,
        feed_forward=4 * width * shape.intermediate_size * reach,
        head=masked * 2 * width * (width + shape.vocab_size),
    )


def flops_per_token(shape: EncoderConfig, tokens: float, masked: float) -> float:
    """FLOPs of a training step, forward and backward, per token; parameters as above."""
    return FORWARD_AND_BACKWARD * forward_flops_per_token(shape, tokens, masked).total


def parameters(shape: EncoderConfig) -> int:
    """Weights of a `MaskedLanguageModel`; the tied output weights count once."""
    width, feed_forward = shape.hidden_size, shape.intermediate_size
    norm = 2 * width
    attention = 4 * (width * width + width) + norm
    layer = attention + 2 * width * feed_forward + feed_forward + width + norm
    embeddings = (shape.vocab_size + shape.max_position_embeddings) * width + norm
    head = width * width + width + norm + shape.vocab_size
    return embeddings + shape.num_layers * layer + head
