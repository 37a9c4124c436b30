"""The models of an evaluation: pretrained ones, read from their folders, and untrained ones."""

from functools import lru_cache
from typing import NamedTuple

import torch

from cmgems.config.encoders import INITS, Model, encoder_keys
from cmgems.config.schema import Data, Experiment
from cmgems.evaluation.config import UNTRAINED, Evaluation, Untrained
from cmgems.hub.pretrained import Pretrained, load_pretrained
from cmgems.models.build import build_model
from cmgems.models.encoder import Encoder, EncoderConfig, MaskedLanguageModel
from cmgems.tokenization import BytePairs, Tokenization, build_tokenization


class ModelSource(NamedTuple):
    """Where the encoders of one column of the table come from."""

    name: str  # as the user wrote it, or `untrained`
    sha256: str  # of the weights' file; empty for an untrained model, which the seed defines
    step: int | None
    tokenization: Tokenization
    shape: EncoderConfig
    init: str  # how the weights of an untrained model are drawn; else empty

    @property
    def tokens(self) -> dict[str, str | int]:
        """The tokenization, as the keys of a file."""
        data = self.data
        tokenizer = {"tokenizer": data.tokenizer} if data.tokenizer else {}
        return {"tokenization": data.tokenization, "k": data.k, **tokenizer}

    @property
    def data(self) -> Data:
        """What builds the tokenization again."""
        tokens = self.tokenization
        file = tokens.source if isinstance(tokens, BytePairs) else ""
        return Data(tokenization=tokens.name, k=tokens.k, tokenizer=file)


def load_sources(evaluation: Evaluation) -> list[ModelSource]:
    """The models that the user named, and the untrained one with the sizes of the first of them.

    Raises
    ------
    UserError
        If one cannot be read.
    """
    sources = []
    for name in evaluation.models:
        model = cached_pretrained(name)
        if evaluation.protocol == "zero_shot":
            model.require_head()
        shape = model.model.encoder.config
        sources.append(ModelSource(name, model.sha256, model.step, model.tokenization, shape, ""))
    if UNTRAINED in evaluation.baselines:
        sources.append(_untrained(evaluation.untrained, sources[0] if sources else None))
    return sources


def _untrained(config: Untrained, like: ModelSource | None) -> ModelSource:
    init = config.init
    if init == "auto":
        began_as = cached_pretrained(like.name).init if like else ""
        init = began_as if began_as in INITS else "bert"  # it may have begun as another's weights
    if like:
        return ModelSource(UNTRAINED, "", 0, like.tokenization, like.shape, init)
    tokenization = build_tokenization(Data(tokenization=config.tokenization, k=config.k))
    shape = EncoderConfig(
        **encoder_keys(Model(preset=config.preset)), vocab_size=tokenization.vocab_size
    )
    return ModelSource(UNTRAINED, "", 0, tokenization, shape, init)


@lru_cache(maxsize=4)
def cached_pretrained(name: str) -> Pretrained:
    """`load_pretrained`, once per process: several jobs ask for the same model."""
    return load_pretrained(name)


def load_language_model(source: ModelSource, seed: int) -> MaskedLanguageModel:
    """The model; the weights of an untrained one are a function of the seed."""
    if source.name != UNTRAINED:
        return cached_pretrained(source.name).model
    shape = source.shape
    experiment = Experiment(
        seed=seed,
        data=source.data,
        model=Model(
            init=source.init, **{name: getattr(shape, name) for name in encoder_keys(Model())}
        ),
    )
    return build_model(experiment).eval()


def load_encoder(source: ModelSource, seed: int, device: torch.device | str) -> Encoder:
    """The encoder of `load_language_model`, on a device."""
    return load_language_model(source, seed).encoder.to(device)
