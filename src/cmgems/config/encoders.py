"""The encoder of an experiment: its keys, and the encoders of the field by name."""

from dataclasses import dataclass, field
from typing import Any

from cmgems.config.options import option

# The keys that choose the kinds of blocks, with BERT's.
BERT_BLOCKS: dict[str, Any] = {
    "norm": "post",
    "embedding_norm": True,
    "token_dropout": False,
    "position_embedding": "learned",
    "mlp": "gelu",
    "biases": True,
    "mlp_biases": "all",
    "tie_embeddings": True,
    "local_attention": 0,
    "conv_stem": 0,
    "attention_every_n_layers": 1,
}

# What a preset need not say.
DEFAULTS: dict[str, Any] = {
    "max_position_embeddings": 512,
    **BERT_BLOCKS,
    "rotary_base": 10_000.0,
    "global_attention_every_n_layers": 1,
    "local_rotary_base": 10_000.0,
    "conv_kernel": 9,
    "conv_dilations": (1,),
}

# Convolutions in front of attention's place, each with a small feed-forward.
_CONVOLUTIONS: dict[str, Any] = {
    "num_layers": 6,
    "hidden_size": 96,
    "num_heads": 2,
    "intermediate_size": 192,
    "norm": "pre",
    "embedding_norm": False,
    "position_embedding": "rotary",
}

# ESM's form: LayerNorm in front of each part and behind the last layer, and none on embeddings.
_ESM: dict[str, Any] = {"norm": "pre", "embedding_norm": False, "tie_embeddings": False}

PRESETS: dict[str, dict[str, Any]] = {
    # for laptops and tests: LOGO's depth, half its width
    "small": {"num_layers": 2, "hidden_size": 128, "num_heads": 4, "intermediate_size": 512},
    # LOGO (Yang et al., NAR 2022)
    "logo": {"num_layers": 2, "hidden_size": 256, "num_heads": 8, "intermediate_size": 3072},
    # DNABERT (Ji et al., Bioinformatics 2021): BERT-base
    "dnabert": {"num_layers": 12, "hidden_size": 768, "num_heads": 12, "intermediate_size": 3072},
    # Nucleotide Transformer (Dalla-Torre et al., Nature Methods 2024), 500M; docs/encoders.md has
    # the keys of its other sizes
    "nucleotide-transformer-v1": _ESM
    | {
        "num_layers": 24,
        "hidden_size": 1280,
        "num_heads": 20,
        "intermediate_size": 5120,
        "max_position_embeddings": 1000,
        "token_dropout": True,
    },
    # its second version, 50M
    "nucleotide-transformer-v2": _ESM
    | {
        "num_layers": 12,
        "hidden_size": 512,
        "num_heads": 16,
        "intermediate_size": 2048,
        "max_position_embeddings": 2048,
        "position_embedding": "rotary",
        "mlp": "swiglu",
        "mlp_biases": "none",
    },
    # DNABERT-2 (Zhou et al., ICLR 2024): MosaicBERT
    "dnabert2": {
        "num_layers": 12,
        "hidden_size": 768,
        "num_heads": 12,
        "intermediate_size": 3072,
        "position_embedding": "alibi",
        "mlp": "geglu",
        "mlp_biases": "down",
    },
    # ModernBERT's blocks (Warner et al., 2024) at a small size; docs/encoders.md has its base size
    "modern": {
        "num_layers": 6,
        "hidden_size": 256,
        "num_heads": 4,
        "intermediate_size": 384,
        "max_position_embeddings": 8192,
        "norm": "pre",
        "position_embedding": "rotary",
        "rotary_base": 160_000.0,
        "mlp": "geglu",
        "biases": False,
        "local_attention": 128,
        "global_attention_every_n_layers": 3,
    },
    # dilated convolutions alone; GPN (Benegas et al., PNAS 2023) is of the kind
    "conv": _CONVOLUTIONS | {"attention_every_n_layers": 0, "conv_dilations": (1, 2, 4, 8, 16, 32)},
    # every third layer attends: four convolutions and two layers of attention
    "conv_attention": _CONVOLUTIONS
    | {"attention_every_n_layers": 3, "conv_dilations": (1, 4, 16, 32)},
}

INITS = ("bert", "fast_start")  # weights that are drawn; any other `model.init` is a path


@dataclass(frozen=True)
class FastStart:
    embeddings: bool = option(
        True, "embeddings of k-mers are sums of their bases'; false: random, of the same norm"
    )
    positions: bool = option(
        True, "embeddings of positions are sinusoids; false: random, of the same norm"
    )
    heads: bool = option(True, "each head attends to one neighbour at first; false: BERT's weights")
    transport: bool = option(
        True, "values keep the variance of the hidden states; false: BERT's weights"
    )


@dataclass(frozen=True)
class Model:
    """The encoder; each of its keys but `dropout` is the preset's where it is null."""

    preset: str = option(
        "small", "named encoder, of which the keys below can change parts", choices=PRESETS
    )
    num_layers: int | None = option(None, "number of layers", low=1, high=200, was="layers")
    hidden_size: int | None = option(
        None, "size of the hidden states", low=2, high=65_536, was="width"
    )
    num_heads: int | None = option(
        None, "number of attention heads", low=1, high=1_024, was="heads"
    )
    intermediate_size: int | None = option(
        None, "size of the feed-forward layers", low=1, high=10**6, was="feed_forward"
    )
    max_position_embeddings: int | None = option(
        None,
        "maximum number of tokens per sequence, [CLS] and [SEP] included",
        low=8,
        high=10**6,
        was="positions",
    )
    dropout: float = option(
        0.0, "dropout probability, everywhere in the encoder", low=0.0, high=0.9
    )
    norm: str | None = option(
        None, "LayerNorm behind each sum (BERT) or in front of each part", choices=("post", "pre")
    )
    embedding_norm: bool | None = option(
        None, "LayerNorm on the embeddings; with norm: pre, false is ESM's form, true ModernBERT's"
    )
    token_dropout: bool | None = option(
        None,
        "ESM's: [MASK] has no embedding, and the others of its sequence grow by as much as is gone",
    )
    position_embedding: str | None = option(
        None,
        "how the encoder knows positions: a vector each, turned queries and keys, or scores that "
        "fall with the distance",
        choices=("learned", "rotary", "alibi"),
    )
    mlp: str | None = option(
        None,
        "feed-forward: GELU, or gated by it or by SiLU",
        choices=("gelu", "geglu", "swiglu"),
    )
    biases: bool | None = option(
        None, "biases of products and LayerNorms; the output keeps its own"
    )
    mlp_biases: str | None = option(
        None,
        "biases of the feed-forward: of both products, of the second, or of none",
        choices=("all", "down", "none"),
    )
    tie_embeddings: bool | None = option(
        None, "the weights of the output are the token embeddings; false: weights of their own"
    )
    rotary_base: float | None = option(
        None, "base of the rotary positions: the larger, the slower the slowest angle", low=2.0
    )
    local_attention: int | None = option(
        None, "tokens that a local layer sees, even, half of them to each side; 0: all", low=0
    )
    global_attention_every_n_layers: int | None = option(
        None,
        "with local_attention: layers from one that sees all tokens to the next, the first being "
        "one; 0: none is",
        low=0,
        high=200,
    )
    local_rotary_base: float | None = option(
        None, "base of the rotary positions in local layers", low=2.0
    )
    conv_stem: int | None = option(
        None, "tokens that a convolution in front of the layers spans, odd; 0: none", low=0, high=31
    )
    attention_every_n_layers: int | None = option(
        None,
        "layers from one with attention to the next, convolutions between them; 1: attention in "
        "all, 0: in none",
        low=0,
        high=200,
    )
    conv_kernel: int | None = option(
        None, "tokens that a convolution layer spans, odd", low=1, high=31
    )
    conv_dilations: tuple[int, ...] | None = option(
        None,
        "distance of the tokens that a convolution spans, of the convolution layers in turn",
        low=1,
        high=1024,
    )
    init: str = option(
        "bert",
        "initial weights: bert, fast_start (for BERT's own blocks), or those of a pretrained "
        "model: a run folder, a checkpoint in one, or a Hugging Face folder",
    )
    fast_start: FastStart = field(default_factory=FastStart)


def encoder_keys(model: Model) -> dict[str, Any]:
    """Sizes and blocks of an experiment's encoder, as `EncoderConfig` names them: the preset's,
    each replaced where the experiment gives its own."""
    keys = DEFAULTS | PRESETS[model.preset]
    own = {name: getattr(model, name) for name in keys}
    return keys | {name: value for name, value in own.items() if value is not None}


def max_positions(model: Model) -> int:
    """The most tokens of a sequence, [CLS] and [SEP] included."""
    return int(encoder_keys(model)["max_position_embeddings"])


def fast_start_problem(model: Model) -> str | None:
    """Why these blocks cannot have the initial weights `fast_start`, in one line."""
    keys = encoder_keys(model)
    for name, needed in BERT_BLOCKS.items():
        if keys[name] != needed:
            return f"model.{name}: found {keys[name]}, model.init fast_start wants {needed}"
    return None
