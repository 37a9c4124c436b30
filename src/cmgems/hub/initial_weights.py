"""`model.init: PATH`: a run begins with the weights of a pretrained model.

They are read when a run begins and never again: its checkpoints hold what became of them.
"""

from typing import Any

from cmgems.config.encoders import INITS, encoder_keys
from cmgems.config.schema import Experiment
from cmgems.errors import UserError
from cmgems.hub.pretrained import load_pretrained
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.tokenization import Tokenization


def take_initial_weights(
    experiment: Experiment, model: MaskedLanguageModel, tokenization: Tokenization
) -> dict[str, Any]:
    """Load the weights that `model.init` names into a new model; do nothing where it names none.

    Returns
    -------
    dict
        The file of the weights, its sha256, the steps that they were trained for, and whether
        sequences ended in [SEP] there; empty where the run begins with weights of its own.

    Raises
    ------
    UserError
        If there is no such model, or it has other tokens or another encoder.
    """
    init = experiment.model.init
    if init in INITS:
        return {}
    try:
        pretrained = load_pretrained(init)
    except UserError as error:
        raise UserError(f"model.init: {error}; or one of {', '.join(INITS)}") from error
    _check_tokens(init, pretrained.tokenization, tokenization)
    _check_encoder(init, pretrained.model, model, experiment)
    model.load_state_dict(pretrained.model.state_dict())
    return {
        "source": pretrained.source,
        "sha256": pretrained.sha256,
        "step": pretrained.step,
        "sep_token": pretrained.model.encoder.config.sep_token,
    }


def _check_tokens(init: str, found: Tokenization, wanted: Tokenization) -> None:
    """Refuse other tokens; what ranks single bases (`data.k`) may differ."""
    if type(found) is type(wanted) and found.vocabulary == wanted.vocabulary:
        return
    raise UserError(
        f"model.init: found {found.description} in {init}, wanted {wanted.description} as the "
        f"experiment has them (data.tokenization, data.k, data.tokenizer)"
    )


def _check_encoder(
    init: str, found: MaskedLanguageModel, wanted: MaskedLanguageModel, experiment: Experiment
) -> None:
    """Refuse other sizes and blocks."""
    theirs, ours = found.encoder.config, wanted.encoder.config
    keys = [key for key in encoder_keys(experiment.model) if hasattr(ours, key)]
    different = [key for key in keys if getattr(theirs, key) != getattr(ours, key)]
    if different:
        settings = " ".join(f"model.{key}={_spelled(getattr(theirs, key))}" for key in different)
        raise UserError(
            f"model.init: {init} has another encoder than the experiment, wanted {settings}"
        )


def _spelled(value: object) -> str:
    """A value as it is given on the command line."""
    if isinstance(value, tuple):
        return f"[{','.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
