"""Sizes of the encoders of the papers."""

from typing import TYPE_CHECKING

from cmgems.config.schema import Experiment, Model

if TYPE_CHECKING:
    from cmgems.models.encoder import EncoderShape

PRESETS = {
    # for laptops and tests: LOGO's depth, half its width
    "small": {"layers": 2, "width": 128, "heads": 4, "feed_forward": 512},
    # LOGO (Yang et al., NAR 2022)
    "logo": {"layers": 2, "width": 256, "heads": 8, "feed_forward": 3072},
    # DNABERT (Ji et al., Bioinformatics 2021): BERT-base
    "dnabert": {"layers": 12, "width": 768, "heads": 12, "feed_forward": 3072},
}


def sizes(model: Model) -> dict[str, int]:
    """The preset's sizes, each replaced where the experiment gives its own."""
    preset = PRESETS[model.preset]
    return {name: getattr(model, name) or size for name, size in preset.items()}


def encoder_shape(experiment: Experiment) -> "EncoderShape":
    """The encoder of an experiment."""
    from cmgems.models.encoder import (
        EncoderShape,  # imports torch; the rules of a config need sizes alone
    )
    from cmgems.tokenization.kmers import vocabulary_size

    model = experiment.model
    return EncoderShape(
        **sizes(model),
        vocabulary=vocabulary_size(experiment.data.k),
        positions=model.positions,
        dropout=model.dropout,
    )
