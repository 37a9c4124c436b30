"""Every preset with every tokenization: what works is trained, what cannot is refused."""

import pytest
from helpers.paths import EXPERIMENTS

from cmgems.config.encoders import PRESETS
from cmgems.models.build import encoder_config
from cmgems.models.encoder import EncoderConfig
from cmgems.pretraining import pretrain
from cmgems.runs.experiment import load

RANDOM = EXPERIMENTS / "pretrain/random.yaml"
# Sizes of a preset that the experiment extended here sets itself.
OWN_SIZES = ("num_layers", "hidden_size", "num_heads", "intermediate_size")


@pytest.mark.parametrize("tokenization", ["kmers", "bases"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_goes_with_a_tokenization(preset, tokenization):
    null = [f"model.{name}=null" for name in (*OWN_SIZES, "max_position_embeddings")]
    keys = [f"model.preset={preset}", f"data.tokenization={tokenization}", "model.init=bert"]
    config = encoder_config(load(RANDOM, [*null, *keys]))
    assert isinstance(config, EncoderConfig)
    assert config.vocab_size == {"kmers": 4101, "bases": 10}[tokenization]
    for name, value in PRESETS[preset].items():
        assert getattr(config, name) == value, name


@pytest.mark.parametrize(
    ("preset", "tokenization"),
    [
        ("nucleotide-transformer-v1", "bases"),
        ("nucleotide-transformer-v2", "kmers"),
        ("dnabert2", "bases"),
        ("modern", "bases"),
    ],
)
def test_a_preset_trains(preset, tokenization, tiny, tmp_path):
    """Small, for three steps, in windows that local layers do not see whole."""
    small = [f"model.preset={preset}", "model.init=bert", "model.num_layers=4"]
    keys = [f"data.tokenization={tokenization}", "train.max_steps=3", f"run.dir={tmp_path / 'run'}"]
    if preset == "modern":
        keys.append("model.local_attention=16")
    pretrain(load(RANDOM, [*tiny, *small, "model.max_position_embeddings=null", *keys]))
    final = load(tmp_path / "run/config.yaml")
    assert final.model.preset == preset
    assert (tmp_path / "run/results.json").is_file()
