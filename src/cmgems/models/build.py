"""The encoder and the model of an experiment."""

import torch

from cmgems.config.encoders import encoder_keys
from cmgems.config.schema import Experiment
from cmgems.models.encoder import EncoderConfig, MaskedLanguageModel
from cmgems.models.initialization import initialize
from cmgems.tokenization import build_tokenization
from cmgems.utils.rng import seed_torch


def encoder_config(experiment: Experiment, vocab_size: int | None = None) -> EncoderConfig:
    """The encoder of an experiment; without `vocab_size` the tokenization is built to know it."""
    if vocab_size is None:
        vocab_size = build_tokenization(experiment.data).vocab_size
    return EncoderConfig(
        **encoder_keys(experiment.model), vocab_size=vocab_size, dropout=experiment.model.dropout
    )


def build_model(experiment: Experiment) -> MaskedLanguageModel:
    """The model of an experiment with its initial weights, a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        seed_torch(experiment.seed, "weights")
        built = MaskedLanguageModel(encoder_config(experiment))
        initialize(built, experiment.model, build_tokenization(experiment.data))
    return built
