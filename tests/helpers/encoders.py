"""Every combination of an encoder's blocks, small."""

from dataclasses import replace
from itertools import product

import torch

from cmgems.models.blocks import MLPS
from cmgems.models.encoder import EncoderConfig, MaskedLanguageModel
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
# Local layers among global ones, and alone; of a reach that cuts rows of 30 tokens into blocks, if
# blocks may be as small as it (`SMALLEST_BLOCK`); and the biases that published encoders leave out.
LOCAL = {
    "third": {"local_attention": 4, "global_attention_every_n_layers": 3},
    "all": {"local_attention": 6, "global_attention_every_n_layers": 0, "local_rotary_base": 50.0},
    "second": {
        "local_attention": 8,
        "global_attention_every_n_layers": 2,
        "rotary_base": 160_000.0,
        "local_rotary_base": 100.0,
    },
}
VARIANTS |= {
    f"{norm}-{positions}-local-{which}": replace(
        BERT,
        **NORMS[norm] | LOCAL[which],
        position_embedding=positions,
        mlp="geglu" if norm == "pre" else "gelu",
        biases=norm == "post",
    )
    for norm, positions in (("post", "learned"), ("post", "alibi"), ("pre", "rotary"))
    for which in LOCAL
}
VARIANTS |= {
    "esm-rotary-swiglu-published": replace(
        BERT,
        **NORMS["esm"],
        position_embedding="rotary",
        mlp="swiglu",
        mlp_biases="none",
        tie_embeddings=False,
    ),
    "post-rotary-swiglu-dropout": replace(
        BERT, position_embedding="rotary", mlp="swiglu", token_dropout=True
    ),
    "post-alibi-geglu-published": replace(
        BERT, position_embedding="alibi", mlp="geglu", mlp_biases="down"
    ),
    "esm-learned-gelu-published": replace(
        BERT, **NORMS["esm"], tie_embeddings=False, token_dropout=True
    ),
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


def tiny_language_model() -> MaskedLanguageModel:
    """One layer whose weights are large enough that each base matters."""
    torch.manual_seed(0)
    model = MaskedLanguageModel(tiny_config(num_layers=1, hidden_size=16, num_heads=2)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model
