"""Sizes of the encoders of the papers, and the encoder of an experiment."""

from typing import TYPE_CHECKING, Any

from cmgems.config.schema import Experiment, Model

if TYPE_CHECKING:
    from cmgems.models.encoder import EncoderConfig

PRESETS = {
    # for laptops and tests: LOGO's depth, half its width
    "small": {"num_layers": 2, "hidden_size": 128, "num_heads": 4, "intermediate_size": 512},
    # LOGO (Yang et al., NAR 2022)
    "logo": {"num_layers": 2, "hidden_size": 256, "num_heads": 8, "intermediate_size": 3072},
    # DNABERT (Ji et al., Bioinformatics 2021): BERT-base
    "dnabert": {"num_layers": 12, "hidden_size": 768, "num_heads": 12, "intermediate_size": 3072},
}

# The keys that choose the kinds of blocks, with BERT's.
BERT_BLOCKS: dict[str, Any] = {
    "norm": "post",
    "embedding_norm": True,
    "position_embedding": "learned",
    "mlp": "gelu",
    "biases": True,
    "conv_stem": 0,
}


def sizes(model: Model) -> dict[str, Any]:
    """The preset's sizes, each replaced where the experiment gives its own."""
    preset = PRESETS[model.preset]
    return {name: getattr(model, name) or size for name, size in preset.items()}


def blocks(model: Model) -> dict[str, Any]:
    """The kinds of blocks that an experiment chooses."""
    return {name: getattr(model, name) for name in BERT_BLOCKS}


def fast_start_problem(model: Model) -> str | None:
    """Why these blocks cannot have the initial weights `fast_start`, in one line."""
    for name, needed in BERT_BLOCKS.items():
        found = getattr(model, name)
        if found != needed:
            return f"model.{name}: found {found}, model.init fast_start wants {needed}"
    return None


def encoder_config(experiment: Experiment) -> "EncoderConfig":
    """The encoder of an experiment."""
    # torch: seconds, and the rules of a config need sizes alone
    from cmgems.models.encoder import EncoderConfig
    from cmgems.tokenization import build_tokenization

    model = experiment.model
    return EncoderConfig(
        **sizes(model),
        vocab_size=build_tokenization(experiment.data).vocab_size,
        max_position_embeddings=model.max_position_embeddings,
        dropout=model.dropout,
        **blocks(model),
    )
