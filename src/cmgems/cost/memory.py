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
from typing import NamedTuple

from cmgems.cost.flops import parameters
from cmgems.models.encoder import EncoderConfig

FLOAT = 4  # bytes
ADAM_MOMENTS = 2


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
    shape: EncoderConfig, micro: Micro, ranks: int = 1, sharded: bool = False
) -> StepMemory:
    """With several ranks DDP keeps the gradients between steps, in its buckets.

    `sharded` (FSDP): weights, gradients and optimiser are spread over the ranks, but for one layer
    at a time.
    """
    weights = FLOAT * parameters(shape)
    gradients = weights
    if not micro.accumulated and ranks == 1:
        # Those of the step before go when the loss is known, before one more table of logits.
        gradients = max(0, weights - FLOAT * _predicted(micro) * shape.vocab_size)
    optimiser = ADAM_MOMENTS * weights
    if sharded:
        gathered = FLOAT * layer_parameters(shape)
        weights, gradients = weights // ranks + gathered, weights // ranks + gathered
        optimiser //= ranks
    return StepMemory(weights, gradients, optimiser, activations(shape, micro))


def layer_parameters(shape: EncoderConfig) -> int:
    """Weights of one layer."""
    return parameters(replace(shape, num_layers=1)) - parameters(replace(shape, num_layers=0))


def activations(shape: EncoderConfig, micro: Micro) -> int:
    """Bytes that the forward pass keeps, and the logits with their gradients."""
    width, tokens = shape.hidden_size, micro.tokens
    predicted = _predicted(micro)
    kept = (shape.num_layers - 1) * _full_layer(shape, micro) + _last_layer(shape, micro, predicted)
    # transform's input, GELU's input, LayerNorm's input, the input of the output weights
    kept += 4 * predicted * width
    embeddings = FLOAT * tokens * width  # LayerNorm's input; the lookup keeps the ids
    rounded = 0 if micro.element == FLOAT else micro.element * parameters(shape)
    # log-softmax, its gradient and that of the logits, always in float32
    logits = 3 * FLOAT * predicted * shape.vocab_size
    # The output weights are the token embeddings, so their gradient waits to the end of the
    # backward pass for its other half: three tables when nothing else is alive any more.
    tables = 3 * FLOAT * shape.vocab_size * width
    return max(embeddings + micro.element * kept + rounded + logits, tables)


def _predicted(micro: Micro) -> int:
    return round(micro.tokens * micro.masked)


def _full_layer(shape: EncoderConfig, micro: Micro) -> int:
    """Numbers kept of a layer that runs at every token."""
    # its input, query, key, value, what attention made of them, both LayerNorms' inputs, and the
    # input of the feed-forward; a mix of lengths is joined into a copy
    states = 8 + (not micro.equal_lengths)
    per_token = states * shape.hidden_size + 2 * shape.intermediate_size + shape.num_heads
    return micro.tokens * (per_token + _dropped(shape, micro))


def _last_layer(shape: EncoderConfig, micro: Micro, predicted: int) -> int:
    """The same of the last: its input, keys and values at every token, the rest at predicted."""
    per_predicted = 7 * shape.hidden_size + 2 * shape.intermediate_size + shape.num_heads
    return 3 * micro.tokens * shape.hidden_size + predicted * (
        per_predicted + _dropped(shape, micro)
    )


def _dropped(shape: EncoderConfig, micro: Micro) -> int:
    """Numbers a token that dropout keeps: its factors, and on a CPU the attention weights, which
    are then computed one by one."""
    if not shape.dropout:
        return 0
    on_cpu = 3 * shape.num_heads * micro.longest if micro.device == "cpu" else 0
    return 2 * shape.hidden_size + on_cpu
