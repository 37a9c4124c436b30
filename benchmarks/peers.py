"""The models that `bench_train.py` races against, each called as transformers calls its own:
`input_ids`, `attention_mask` and `labels` [B, S] in, an object with the `loss` out.

`hugging_face` is the class of transformers that computes an encoder. For the others `PlainModel` is
the same encoder in plain PyTorch, as a practitioner writes it: padded rows [B, S, D], torch's own
Linear, Conv1d and scaled_dot_product_attention, logits and loss at the masked positions alone
(`tests/benchmarks/test_peers.py`: its logits are ours for the same weights).

Shapes: B rows, S tokens of a row, D hidden size, H heads, E = D / H, M masked positions.
"""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmgems.config.schema import Experiment
from cmgems.hub.families import family_of
from cmgems.models.build import encoder_config
from cmgems.models.encoder import EncoderConfig, MaskedLanguageModel
from cmgems.models.positions import alibi_slopes
from cmgems.tokenization import build_tokenization

IGNORED = -100  # the label of a position that is not masked
EPSILON = 1e-12


def hugging_face(experiment: Experiment, attention: str) -> nn.Module:
    """The class of transformers that computes the encoder of an experiment; `attention` is its
    implementation, `eager` or `sdpa`."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    encoder = encoder_config(experiment)
    keys = family_of(encoder).config(encoder, build_tokenization(experiment.data))
    if keys["model_type"] == "modernbert":
        keys["reference_compile"] = False
    config = AutoConfig.for_model(**keys)
    return AutoModelForMaskedLM.from_config(config, attn_implementation=attention)


def eager(experiment: Experiment) -> nn.Module:
    return hugging_face(experiment, "eager")


def sdpa(experiment: Experiment) -> nn.Module:
    return hugging_face(experiment, "sdpa")


def plain(experiment: Experiment) -> nn.Module:
    return PlainModel(encoder_config(experiment))


class PlainModel(nn.Module):
    """Embeddings, layers and BERT's prediction head, with the names of our weights."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        width = config.hidden_size
        self.tokens = nn.Embedding(config.vocab_size, width)
        self.norm = nn.LayerNorm(width, EPSILON) if config.embedding_norm else nn.Identity()
        self.layers = nn.ModuleList(PlainLayer(config, n) for n in range(config.num_layers))
        self.final_norm = nn.LayerNorm(width, EPSILON) if config.norm == "pre" else nn.Identity()
        self.head_dense = nn.Linear(width, width)
        self.head_norm = nn.LayerNorm(width, EPSILON)
        self.decoder = nn.Linear(width, config.vocab_size)
        self.apply(_initialize)
        if config.tie_embeddings:
            self.decoder.weight = self.tokens.weight

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> SimpleNamespace:
        """The mean `loss` and the `logits` [M, vocabulary] where a label is not `IGNORED`."""
        x = self.norm(self.tokens(input_ids))
        for layer in self.layers:
            x = layer(x, attention_mask.bool())
        masked = labels != IGNORED
        x = self.head_norm(F.gelu(self.head_dense(self.final_norm(x)[masked])))
        logits = self.decoder(x)
        return SimpleNamespace(loss=F.cross_entropy(logits, labels[masked]), logits=logits)


class PlainLayer(nn.Module):
    """Attention or a convolution, then a feed-forward; LayerNorm in front of each, or behind."""

    def __init__(self, config: EncoderConfig, number: int):
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        up, down = config.feed_forward_biases
        self.is_pre = config.norm == "pre"
        dilation = config.conv_dilation(number)
        self.mixer: nn.Module
        if dilation is None:
            self.mixer = PlainAttention(width, config.num_heads, config.position_embedding)
        else:
            self.mixer = PlainConvolution(width, config.conv_kernel, dilation)
        self.mixer_norm, self.norm = (nn.LayerNorm(width, EPSILON) for _ in range(2))
        self.gate = {"gelu": None, "geglu": F.gelu, "swiglu": F.silu}[config.mlp]
        self.up = nn.Linear(width, inner if self.gate is None else 2 * inner, up)
        self.down = nn.Linear(inner, width, down)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.is_pre:
            x = x + self.mixer(self.mixer_norm(x), mask)
            return x + self.feed_forward(self.norm(x))
        x = self.mixer_norm(x + self.mixer(x, mask))
        return self.norm(x + self.feed_forward(x))

    def feed_forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            return self.down(F.gelu(self.up(x)))
        gate, value = self.up(x).chunk(2, -1)
        return self.down(self.gate(gate) * value)


class PlainAttention(nn.Module):
    """Over the tokens of a row, with `rotary` positions or the falling scores of `alibi`."""

    def __init__(self, width: int, heads: int, positions: str):
        super().__init__()
        self.heads, self.positions = heads, positions
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, H, S, E]
            for part in self.qkv(x).chunk(3, -1)
        )
        seen = mask[:, None, None, :]
        if self.positions == "rotary":
            query, key = rotate(query), rotate(key)
        else:
            place = torch.arange(x.shape[1], device=x.device)
            slopes = alibi_slopes(self.heads, x.device)[:, None, None]
            falling = -slopes * (place[:, None] - place).abs()
            seen = falling.to(query.dtype).masked_fill(~seen, -torch.inf)
        mixed = F.scaled_dot_product_attention(query, key, value, seen)
        return self.output(mixed.transpose(1, 2).flatten(2))


def rotate(x: Tensor) -> Tensor:
    """x [B, H, S, E] with rotary positions, as the code of ESM and LLaMA turns it."""
    place, size = torch.arange(x.shape[2], device=x.device), x.shape[-1]
    frequency = 10_000.0 ** (-torch.arange(0, size, 2, device=x.device) / size)
    angle = (place[:, None] * frequency).repeat(1, 2)
    first, second = x.chunk(2, -1)
    return x * angle.cos().to(x.dtype) + torch.cat([-second, first], -1) * angle.sin().to(x.dtype)


class PlainConvolution(nn.Module):
    """GELU of a dilated Conv1d along the row, zeros in the place of padding."""

    def __init__(self, width: int, kernel: int, dilation: int):
        super().__init__()
        reach = dilation * (kernel // 2)
        self.convolution = nn.Conv1d(width, width, kernel, padding=reach, dilation=dilation)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        rows = (x * mask[..., None]).transpose(1, 2)  # [B, D, S]
        return F.gelu(self.convolution(rows)).transpose(1, 2)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear | nn.Conv1d) and module.bias is not None:
        nn.init.zeros_(module.bias)


@torch.no_grad()
def copy_weights(ours: MaskedLanguageModel, peer: PlainModel) -> None:
    """Give the peer the weights of a model of ours with the same configuration."""
    weights = {}
    for name, weight in ours.state_dict().items():
        kind = name.rpartition(".")[2]
        if ".query." in name:
            key_value = ours.state_dict()[name.replace("query", "key_value")]
            weight = torch.cat([weight, key_value])
        if ".mixer.matrix.weight" in name:
            weight = weight.unflatten(1, (len(weight), -1))
        name = {f"norm.{kind}": f"head_norm.{kind}", "bias": "decoder.bias"}.get(name, name)
        name = name.removeprefix("encoder.").replace(".mixer.query.", ".mixer.qkv.")
        name = name.replace(".mlp.", ".").replace(".mixer.matrix.", ".mixer.convolution.")
        if ".key_value." not in name:
            weights[name] = weight
    if "decoder.weight" not in weights:
        weights["decoder.weight"] = weights["tokens.weight"]
    peer.load_state_dict(weights)
