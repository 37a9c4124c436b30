"""Sizes of the encoders of the papers."""

from cmgems.config import Model

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
