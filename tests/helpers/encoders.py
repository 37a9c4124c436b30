"""Every combination of an encoder's blocks, small."""

from dataclasses import replace
from itertools import product

from cmgems.models.blocks import MLPS
from cmgems.models.encoder import EncoderConfig
from cmgems.models.positions import POSITIONS

BERT = EncoderConfig(
    num_layers=3,
    hidden_size=32,
    num_heads=4,
    intermediate_size=24,
    vocab_size=69,
    max_position_embeddings=40,
)


def tiny_config(**changes):
    """BERT's blocks on 3-mers, small, with what a test wants different."""
    return replace(BERT, **changes)


NORMS = {
    "post": {"norm": "post"},
    "pre": {"norm": "pre"},
    "esm": {"norm": "pre", "embedding_norm": False},
}
VARIANTS = {
    "-".join(map(str, (norm, positions, mlp, biases, stem))): replace(
        BERT,
        **NORMS[norm],
        position_embedding=positions,
        mlp=mlp,
        biases=biases == "biases",
        conv_stem=stem,
    )
    for norm, positions, mlp, biases, stem in product(
        NORMS, POSITIONS, MLPS, ("biases", "none"), (0, 5)
    )
}
# Convolutions, alone and among layers with attention. ALiBi and GEGLU stand for the other blocks.
CONVOLUTIONS = {
    "every": {"attention_every_n_layers": 0},
    "second": {"attention_every_n_layers": 2},
    "first": {"attention_every_n_layers": 3, "conv_kernel": 3},
}
VARIANTS |= {
    f"{norm}-{positions}-convolution-{which}": replace(
        BERT,
        **{"conv_kernel": 5, "conv_dilations": (1, 3)} | NORMS[norm] | CONVOLUTIONS[which],
        position_embedding=positions,
        biases=norm == "esm",
    )
    for norm, positions in (("post", "learned"), ("pre", "alibi"), ("esm", "rotary"))
    for which in CONVOLUTIONS
}
