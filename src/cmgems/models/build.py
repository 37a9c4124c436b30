"""The model of an experiment with its initial weights."""

import torch

from cmgems.config.schema import Experiment
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.models.initialization import initialize
from cmgems.models.presets import encoder_config
from cmgems.tokenization import build_tokenization
from cmgems.utils.rng import seed_torch


def build_model(experiment: Experiment) -> MaskedLanguageModel:
    """The model of an experiment with its initial weights, a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        seed_torch(experiment.seed, "weights")
        built = MaskedLanguageModel(encoder_config(experiment))
        initialize(built, experiment.model, build_tokenization(experiment.data))
    return built
