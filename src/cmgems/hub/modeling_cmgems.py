"""An encoder for DNA that was exported from cmgems, in plain torch.

This file stands alone: it needs torch and safetensors, and nothing of cmgems. It lies in the
exported folder because no class of transformers computes this encoder. Read it before you run it:

    from modeling_cmgems import load

    model = load("FOLDER")  # in evaluation mode, float32
    logits = model(ids, mask)  # [B, S, vocabulary]
    states = model.encoder(ids, mask)  # [B, S, hidden_size]

`ids` are int64 [B, S], each row [CLS] (2), the tokens, [SEP] (3) and padding (0); `mask` is bool
[B, S], False at padding. vocab.txt has the tokens in the order of their ids, and tokenizer.json is
a tokenizer for the library `tokenizers`. config.json describes the encoder; docs/encoders.md of
cmgems says what each key means. Written to be read, not to be fast: local attention computes all
scores.

Shapes: B rows, S tokens of a row, D hidden size, H heads, E = D / H.
"""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

MASK = 4  # the id of [MASK]
TOKEN_DROPOUT = 0.15 * 0.8  # the share of [MASK] that ESM's token dropout scales to
# Feed-forwards, and those whose one half is gated by the other.
PLAIN: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu}
GATED: dict[str, Callable[[Tensor], Tensor]] = {"geglu": F.gelu, "swiglu": F.silu}
FEED_FORWARD_BIASES = {"all": (True, True), "down": (False, True), "none": (False, False)}


def load(folder: str | Path) -> "MaskedLanguageModel":
    """The model of an exported folder with its weights."""
    folder = Path(folder)
    config = SimpleNamespace(**json.loads((folder / "config.json").read_text()))
    model = MaskedLanguageModel(config)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


class MaskedLanguageModel(nn.Module):
    """The encoder, and the head that predicts the token at each position."""

    def __init__(self, config: SimpleNamespace):
        super().__init__()
        width = config.hidden_size
        self.encoder = Encoder(config)
        self.head_dense = nn.Linear(width, width, config.biases)
        self.norm, self.gelu = _norm(config), _gelu(config)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        tied = config.tie_embeddings
        self.decoder = None if tied else nn.Linear(width, config.vocab_size, bias=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits [B, S, vocabulary]."""
        x = self.norm(self.gelu(self.head_dense(self.encoder(ids, mask))))
        output = self.encoder.tokens if self.decoder is None else self.decoder
        return x @ output.weight.T + self.bias


class Encoder(nn.Module):
    """Embeddings and layers."""

    def __init__(self, config: SimpleNamespace):
        super().__init__()
        width, biases = config.hidden_size, config.biases
        self.tokens = nn.Embedding(config.vocab_size, width)
        self.token_dropout = config.token_dropout
        self.positions = nn.Module()
        if config.position_embedding == "learned":
            self.positions = nn.Embedding(config.max_position_embeddings, width)
        self.stem = Stem(width, config.conv_stem, biases) if config.conv_stem else None
        self.norm = _norm(config) if config.embedding_norm else nn.Identity()
        self.layers = nn.ModuleList(Layer(config, n) for n in range(config.num_layers))
        self.final_norm = _norm(config) if config.norm == "pre" else nn.Identity()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Hidden states [B, S, D]; those of padding mean nothing."""
        x = self.tokens(ids)
        if self.token_dropout:
            dropped = (ids == MASK) & mask
            share = dropped.sum(1, keepdim=True) / mask.sum(1, keepdim=True)
            x = x * (~dropped * (1 - TOKEN_DROPOUT) / (1 - share))[..., None]
        if isinstance(self.positions, nn.Embedding):
            x = x + self.positions.weight[: ids.shape[1]]
        if self.stem is not None:
            x = self.stem(x, mask)
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, mask)
        return self.final_norm(x)


class Layer(nn.Module):
    """Attention or a convolution, then a feed-forward, each added to what comes in."""

    def __init__(self, config: SimpleNamespace, number: int):
        super().__init__()
        self.pre = config.norm == "pre"
        # every n-th layer attends, the others are convolutions
        every = config.attention_every_n_layers
        attends = every > 0 and (number + 1) % every == 0
        before = number - (number // every if every else 0)  # convolutions before this layer
        dilation = config.conv_dilations[before % len(config.conv_dilations)]
        self.mixer = Attention(config, number) if attends else Convolution(config, dilation)
        normalized = self.pre and config.embedding_norm and number == 0
        self.mixer_norm = nn.Identity() if normalized else _norm(config)
        self.mlp = FeedForward(config)
        self.norm = _norm(config)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.pre:
            x = x + self.mixer(self.mixer_norm(x), mask)
            return x + self.mlp(self.norm(x))
        x = self.mixer_norm(x + self.mixer(x, mask))
        return self.norm(x + self.mlp(x))


class Attention(nn.Module):
    """Softmax attention of each token over its row, or over the tokens near it."""

    def __init__(self, config: SimpleNamespace, number: int):
        super().__init__()
        width, biases = config.hidden_size, config.biases
        self.heads, self.kind = config.num_heads, config.position_embedding
        every = config.global_attention_every_n_layers
        local = config.local_attention > 0 and not (every > 0 and number % every == 0)
        self.reach = config.local_attention // 2 if local else None
        self.base = config.local_rotary_base if local else config.rotary_base
        self.query = nn.Linear(width, width, biases)
        self.key_value = nn.Linear(width, 2 * width, biases)
        self.output = nn.Linear(width, width, biases)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        projected = self.query(x), *self.key_value(x).chunk(2, -1)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in projected
        )  # [B, H, S, E]
        if self.kind == "rotary":
            query, key = rotate(query, self.base), rotate(key, self.base)
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        place = torch.arange(x.shape[1], device=x.device)
        distance = (place[:, None] - place).abs()
        if self.kind == "alibi":
            slopes = torch.tensor(alibi_slopes(self.heads), dtype=x.dtype, device=x.device)
            scores = scores - slopes[:, None, None] * distance
        seen = mask[:, None, None, :].expand(-1, 1, x.shape[1], -1)
        if self.reach is not None:
            seen = seen & (distance <= self.reach)
        # Padding sees itself, so that its softmax has something to add up.
        seen = seen | (distance == 0)
        weights = scores.masked_fill(~seen, -math.inf).softmax(-1)
        return self.output((weights @ value).transpose(1, 2).flatten(2))


def rotate(x: Tensor, base: float) -> Tensor:
    """x [B, H, S, E]: features e and e + E / 2 turn by the position times base^(-2 e / E)."""
    size = x.shape[-1]
    exact = torch.promote_types(x.dtype, torch.float32)
    frequency = base ** (-torch.arange(0, size, 2, dtype=exact, device=x.device) / size)
    angle = torch.arange(x.shape[2], device=x.device)[:, None] * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def alibi_slopes(heads: int) -> list[float]:
    """2^(-8 h / H), h = 1 to H; of a number that is no power of 2, those of the power below and
    every second one of the power above."""
    below = 1 << (heads.bit_length() - 1)
    slopes = [2 ** (-8 * h / below) for h in range(1, below + 1)]
    return slopes + [2 ** (-4 * h / below) for h in range(1, 2 * (heads - below), 2)]


class Convolution(nn.Module):
    """GELU of a convolution over tokens that lie `dilation` apart; zeros beyond the row's ends. Its
    weight is a matrix [D, D W]: feature after feature, each with its W taps."""

    def __init__(self, config: SimpleNamespace, dilation: int):
        super().__init__()
        width, self.kernel = config.hidden_size, config.conv_kernel
        self.dilation, self.reach = dilation, dilation * (self.kernel // 2)
        self.matrix = nn.Linear(self.kernel * width, width, config.biases)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        weight = self.matrix.weight.unflatten(1, (-1, self.kernel))
        rows = (x * mask[..., None]).mT
        mixed = F.conv1d(rows, weight, self.matrix.bias, padding=self.reach, dilation=self.dilation)
        return F.gelu(mixed.mT)


class Stem(nn.Module):
    """x + GELU(a convolution over the embeddings), its weight [D, W D], tap after tap."""

    def __init__(self, width: int, kernel: int, biases: bool):
        super().__init__()
        self.kernel = kernel
        self.convolution = nn.Linear(kernel * width, width, biases)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        reach, length = self.kernel // 2, x.shape[1]
        padded = F.pad(x * mask[..., None], (0, 0, reach, reach))
        taps = [padded[:, tap : tap + length] for tap in range(self.kernel)]
        return x + F.gelu(self.convolution(torch.cat(taps, -1)))


class FeedForward(nn.Module):
    """down(GELU(up x)), or gated: down(GELU or SiLU (a) * b), a and b the halves of up x."""

    def __init__(self, config: SimpleNamespace):
        super().__init__()
        self.is_gated, inner = config.mlp in GATED, config.intermediate_size
        activation = (PLAIN | GATED)[config.mlp]
        self.activation = _gelu(config) if activation is F.gelu else activation
        up, down = FEED_FORWARD_BIASES[config.mlp_biases]
        wide = 2 * inner if self.is_gated else inner
        self.up = nn.Linear(config.hidden_size, wide, config.biases and up)
        self.down = nn.Linear(inner, config.hidden_size, config.biases and down)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.up(x)
        if not self.is_gated:
            return self.down(self.activation(inner))
        gate, value = inner.chunk(2, -1)
        return self.down(self.activation(gate) * value)


def _gelu(config: SimpleNamespace) -> Callable[[Tensor], Tensor]:
    return partial(F.gelu, approximate="tanh" if config.approximate_gelu else "none")


def _norm(config: SimpleNamespace) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, config.norm_eps, bias=config.biases)
