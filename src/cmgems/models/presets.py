"""Sizes of the encoders of the papers."""

from typing import TYPE_CHECKING

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


def sizes(model: Model) -> dict[str, int]:
    """The preset's sizes, each replaced where the experiment gives its own."""
    preset = PRESETS[model.preset]
    return {name: getattr(model, name) or size for name, size in preset.items()}


def encoder_config(experiment: Experiment) -> "EncoderConfig":
    """The encoder of an experiment."""
    from cmgems.models.encoder import (
        EncoderConfig,  # imports torch; the rules of a config need sizes alone
    )
    from cmgems.tokenization.kmers import vocabulary_size

    model = experiment.model
    return EncoderConfig(
        **sizes(model),
        vocab_size=vocabulary_size(experiment.data.k),
        max_position_embeddings=model.max_position_embeddings,
        dropout=model.dropout,
    )
