"""Memory of a training step, counted from the sizes of the encoder.

What is counted are the tensors that are alive when most are: at the start of the last backward
pass of a step, just before the gradient of the logits becomes that of the prediction head. Alive
then are the weights, the optimiser's state, the gradients of the micro-batches before, and what the
forward pass keeps for the backward pass. A tensor that two operations keep is there once.

Not counted: what the allocator loses between blocks, a GPU's context and libraries, the genome
(a memory map on the host) and Python itself.

T tokens, M predicted tokens, D width, F feed-forward width, H heads, V vocabulary.
"""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import torch

from cmgems.cost.flops import parameters
from cmgems.models.blocks import MLPS
from cmgems.models.encoder import EncoderConfig, MaskedLanguageModel
from cmgems.models.scores import Scores
from cmgems.training.optim import split_parameters

FLOAT = 4  # bytes
ADAM_MOMENTS = 2
MUON_MOMENTS = 1  # of a matrix; AdamW has the rest


class Micro(NamedTuple):
    """What a device takes at once, and how."""

    tokens: int  # T
    longest: int  # tokens of the longest sequence
    masked: float  # share of the tokens that is predicted
    element: int = FLOAT  # bytes of a state behind the embeddings
    accumulated: bool = True  # several micro-batches make a step
    equal_lengths: bool = True
    device: str = "cpu"  # torch's type of it


class StepMemory(NamedTuple):
    """Bytes by what they are for."""

    weights: int
    gradients: int
    optimiser: int
    activations: int

    @property
    def total(self) -> int:
        return sum(self)


def step_memory(
    config: EncoderConfig,
    micro: Micro,
    ranks: int = 1,
    sharded: bool = False,
    optimizer: str = "adamw",
) -> StepMemory:
    """With several ranks DDP keeps the gradients between steps, in its buckets.

    `optimizer` is a value of `optim.name`. `sharded` (FSDP): weights, gradients and optimiser are
    spread over the ranks, but for one layer at a time.
    """
    weights = FLOAT * parameters(config)
    gradients = weights
    if not micro.accumulated and ranks == 1:
        # Those of the step before go when the loss is known, before one more table of logits.
        gradients = max(0, weights - FLOAT * _predicted(micro) * config.vocab_size)
    optimiser = FLOAT * optimizer_moments(config, optimizer)
    if sharded:
        gathered = FLOAT * layer_parameters(config)
        weights, gradients = weights // ranks + gathered, weights // ranks + gathered
        optimiser //= ranks
    return StepMemory(weights, gradients, optimiser, activations(config, micro))


def optimizer_moments(config: EncoderConfig, optimizer: str) -> int:
    """Numbers that the optimizer keeps of the weights."""
    moments = ADAM_MOMENTS * parameters(config)
    if optimizer == "muon":
        moments -= (ADAM_MOMENTS - MUON_MOMENTS) * _muon_parameters(config)
    return moments


@lru_cache
def _muon_parameters(config: EncoderConfig) -> int:
    """Weights in the matrices that Muon takes, of a model without memory."""
    with torch.device("meta"):
        matrices, _ = split_parameters(MaskedLanguageModel(config))
    return sum(matrix.numel() for matrix in matrices)


def layer_parameters(config: EncoderConfig) -> int:
    """Weights of one layer, of the largest kind that the encoder has."""
    every = config.attention_every_n_layers
    kinds = (every,) if every < 2 else (0, 1)  # convolutions alone, attention alone, or both
    alike = [replace(config, attention_every_n_layers=kind) for kind in kinds]
    # A pre-norm encoder's first layer may lack a LayerNorm, so what a second one adds counts.
    return max(
        parameters(replace(kind, num_layers=2)) - parameters(replace(kind, num_layers=1))
        for kind in alike
    )


def activations(config: EncoderConfig, micro: Micro) -> int:
    """Bytes that the forward pass keeps, and the logits with their gradients."""
    width, tokens = config.hidden_size, micro.tokens
    predicted = _predicted(micro)
    last = config.num_layers - 1
    kept = sum(_full_layer(config, micro, layer) for layer in range(last))
    kept += _last_layer(config, micro, predicted)
    if config.norm == "pre" and config.embedding_norm:
        kept -= tokens * width  # the first layer's input is not normalized once more
    # the dense layer's input, GELU's input, LayerNorm's input, the input of the output weights
    kept += 4 * predicted * width
    kept += _of_positions(config, micro) + _of_stem(config, micro)
    # The embeddings' LayerNorm's input; the lookup keeps the ids.
    embeddings = FLOAT * tokens * width * config.embedding_norm
    rounded = 0 if micro.element == FLOAT else micro.element * parameters(config)
    # log-softmax, its gradient and that of the logits, always in float32
    logits = 3 * FLOAT * predicted * config.vocab_size
    # The output weights are the token embeddings, so their gradient waits to the end of the
    # backward pass for its other half: three tables when nothing else is alive any more.
    tables = 3 * FLOAT * config.vocab_size * width * config.tie_embeddings
    return max(embeddings + micro.element * kept + rounded + logits, tables)


def _predicted(micro: Micro) -> int:
    return round(micro.tokens * micro.masked)


def _of_positions(config: EncoderConfig, micro: Micro) -> int:
    """Numbers kept once for all layers: a cosine and a sine per two features of a head."""
    if config.position_embedding != "rotary":
        return 0
    bases = {
        config.layer_rotary_base(layer)
        for layer in range(config.num_layers)
        if config.conv_dilation(layer) is None
    }
    return len(bases) * micro.tokens * config.hidden_size // config.num_heads


def _of_stem(config: EncoderConfig, micro: Micro) -> int:
    """The convolution's input, spelled out per kernel position, and GELU's input."""
    return micro.tokens * config.hidden_size * (config.conv_stem + 1) if config.conv_stem else 0


def _full_layer(config: EncoderConfig, micro: Micro, layer: int) -> int:
    """Numbers kept of a layer that runs at every token."""
    width, dropped = config.hidden_size, _dropped(config, micro, layer)
    if config.conv_dilation(layer) is not None:
        # its input, GELU's input, and of the LayerNorms and the feed-forward what is kept below
        return micro.tokens * (5 * width + _feed_forward(config) + dropped)
    # its input, query, key, value, what attention made of them, both LayerNorms' inputs (of a
    # pre-norm layer: one of them and both outputs), and the input of the feed-forward; a mix of
    # lengths is joined into a copy
    states = 8 + (not micro.equal_lengths)
    block = Scores(reach=config.reach(layer)).block_width(micro.longest)
    if block:
        states += 4  # keys and values three times
    per_token = states * width + _feed_forward(config) + config.num_heads
    return _table(config, micro, layer, block) + micro.tokens * (per_token + dropped)


def _table(config: EncoderConfig, micro: Micro, layer: int, block: int) -> int:
    """Numbers of the table that is added to the scores: ALiBi's, and what a local layer sees."""
    heads = config.num_heads if _has_alibi(config) else 1
    if block:
        return micro.tokens * 3 * block * heads
    if not _has_alibi(config) and config.reach(layer) is None:
        return 0
    rows = micro.longest if micro.equal_lengths else micro.tokens
    return rows * micro.longest * heads  # sequences of equal length share one


def _last_layer(config: EncoderConfig, micro: Micro, predicted: int) -> int:
    """The same of the last: its input, keys and values at every token, the rest at predicted; of a
    convolution GELU's input at every token."""
    last = config.num_layers - 1
    is_convolution = config.conv_dilation(last) is not None
    everywhere = (2 if is_convolution else 3) + (config.norm == "pre")  # and the input's LayerNorm
    per_predicted = _feed_forward(config) + _dropped(config, micro, last)
    if is_convolution:
        per_predicted += 4 * config.hidden_size
    else:
        per_predicted += 7 * config.hidden_size + config.num_heads
        if _has_alibi(config):
            per_predicted += micro.longest * config.num_heads
        elif config.reach(last) is not None:
            per_predicted += micro.longest
    return everywhere * micro.tokens * config.hidden_size + predicted * per_predicted


def _feed_forward(config: EncoderConfig) -> int:
    """Numbers per token that the feed-forward keeps of its inner features."""
    return MLPS[config.mlp].kept * config.intermediate_size


def _has_alibi(config: EncoderConfig) -> bool:
    return config.position_embedding == "alibi"


def _dropped(config: EncoderConfig, micro: Micro, layer: int) -> int:
    """Numbers a token that dropout keeps: its factors, and on a CPU the attention weights, which
    are then computed one by one."""
    if not config.dropout:
        return 0
    attends = config.conv_dilation(layer) is None
    block = Scores(reach=config.reach(layer)).block_width(micro.longest)
    keys = 3 * block or micro.longest
    on_cpu = 3 * config.num_heads * keys if micro.device == "cpu" and attends else 0
    return 2 * config.hidden_size + on_cpu
