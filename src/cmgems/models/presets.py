"""The encoders of the papers and of the field by name, and the encoder of an experiment."""

from typing import TYPE_CHECKING, Any

from cmgems.config.schema import Experiment, Model

if TYPE_CHECKING:
    from cmgems.models.encoder import EncoderConfig

# The keys that choose the kinds of blocks, with BERT's.
BERT_BLOCKS: dict[str, Any] = {
    "norm": "post",
    "embedding_norm": True,
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


def encoder_config(experiment: Experiment) -> "EncoderConfig":
    """The encoder of an experiment."""
    # torch: seconds, and the rules of a config need sizes alone
    from cmgems.models.encoder import EncoderConfig
    from cmgems.tokenization import build_tokenization

    vocab_size = build_tokenization(experiment.data).vocab_size
    return EncoderConfig(
        **encoder_keys(experiment.model), vocab_size=vocab_size, dropout=experiment.model.dropout
    )
