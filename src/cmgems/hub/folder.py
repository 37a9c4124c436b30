"""Folders that Hugging Face's `from_pretrained` reads: written from our models, and read as ours.

config.json               sizes and architecture, under their names
model.safetensors         weights; `pytorch_model.bin` is read as well, with weights_only=True
tokenizer.json            text -> ids, with tokenizer_config.json for AutoTokenizer
vocab.txt                 the same tokens, one per line, as DNABERT ships them
README.md                 the model card
modeling_cmgems.py        computes the model, where no class of transformers does
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from cmgems.errors import UserError
from cmgems.hub.conversion import Weights, plain_names
from cmgems.hub.families import family_of_folder
from cmgems.hub.vocabulary import SETTINGS, VOCABULARY, read_json, read_tokens
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.models.weights import check_finite, check_shapes
from cmgems.tokenization import Tokenization
from cmgems.tokenization.base import SPECIAL_TOKENS
from cmgems.tokenization.bpe_file import TOKENIZER
from cmgems.tokenization.hf import fast_tokenizer
from cmgems.utils.files import atomic_folder
from cmgems.utils.plain_pickle import load_plain

CONFIG = "config.json"
WEIGHTS, PICKLED_WEIGHTS = "model.safetensors", "pytorch_model.bin"
ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")


class ReadFolder(NamedTuple):
    """A model as it was read from a folder."""

    model: MaskedLanguageModel
    tokenization: Tokenization
    weights: Path  # the file that they were read from
    has_head: bool  # of masked prediction; else its weights are 0


def check_empty(folder: Path) -> None:
    """Refuse a folder that is not empty.

    Raises
    ------
    UserError
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: found a file, wanted a new or empty folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: found a folder that is not empty, wanted a new or empty one")


def write_folder(
    folder: Path,
    weights: Weights,
    config: dict[str, Any],
    tokenization: Tokenization,
    card: str,
    module: Path | None = None,
) -> None:
    """Write a model; the folder appears when all of it is written.

    Parameters
    ----------
    folder : Path
        New or empty.
    weights : dict of tensors
        From a family of `cmgems.hub.families`, or from `cmgems.hub.bert_weights`:
        `classifier_states`, or `bert_states` and a head.
    config : dict
        From the same family, or from `cmgems.hub.bert_weights.bert_config`.
    tokenization : Tokenization
    card : str
        The model card, Markdown.
    module : Path or None
        Python that computes the model, which is copied into the folder.
    """
    check_empty(folder)
    with atomic_folder(folder) as temporary:
        (temporary / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        # not save_file: that makes the file unreadable to others, whatever the umask
        (temporary / WEIGHTS).write_bytes(save(weights, metadata={"format": "pt"}))
        positions, sep_token = config["max_position_embeddings"], config.get("sep_token", True)
        write_tokenizer(temporary, tokenization, positions, sep_token)
        (temporary / "README.md").write_text(card)
        if module is not None:
            (temporary / module.name).write_text(module.read_text())


def write_tokenizer(
    folder: Path, tokenization: Tokenization, positions: int = 512, sep_token: bool = True
) -> None:
    """Add what AutoTokenizer needs (`cmgems.tokenization.hf` says what text it takes)."""
    fast_tokenizer(tokenization, sep_token).save(str(folder / TOKENIZER))
    roles: dict[str, str | None] = dict(zip(ROLES, SPECIAL_TOKENS, strict=True))
    if not sep_token:
        roles["sep_token"] = None
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": positions,
        "clean_up_tokenization_spaces": False,
        **roles,
    }
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(roles, indent=2) + "\n")
    (folder / VOCABULARY).write_text("".join(f"{token}\n" for token in tokenization.vocabulary))


def refuse_stand_in(path: Path) -> None:
    """Refuse what a clone or a download has left in place of a file.

    Raises
    ------
    UserError
    """
    if not path.is_file():
        return
    with open(path, "rb") as file:
        head = file.read(256).lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        raise UserError(f"{path}: is a Git LFS pointer, wanted the file itself (git lfs pull)")
    if head.startswith((b"<!doctype html", b"<html")):
        raise UserError(f"{path}: is a web page, wanted the file itself, from its download link")


def is_hugging_face_folder(path: Path) -> bool:
    """Whether this looks like a folder for `from_pretrained`."""
    return (path / CONFIG).is_file()


def read_folder(folder: Path) -> ReadFolder:
    """Read one of our models, or a published one of a class that `cmgems.hub.families` lists. Its
    tokens may be in any order (`cmgems.hub.vocabulary`).

    Raises
    ------
    UserError
        If it is another architecture, has another vocabulary, lacks weights or is damaged.
    """
    for name in (CONFIG, WEIGHTS, PICKLED_WEIGHTS, TOKENIZER, SETTINGS, VOCABULARY):
        refuse_stand_in(folder / name)
    config = read_json(folder / CONFIG)
    try:
        family = family_of_folder(config)
        shape = family.read_config(config)
    except UserError as error:
        raise UserError(f"{folder / CONFIG}: {error}") from error
    tokens = read_tokens(folder)
    try:
        tokens.check_rows(shape.vocab_size)
    except UserError as error:
        raise UserError(f"{folder / CONFIG}: {error}") from error
    weights, vocab_size = _weights_file(folder), tokens.tokenization.vocab_size
    model = MaskedLanguageModel(replace(shape, vocab_size=vocab_size, sep_token=tokens.closed))
    states = _read_weights(weights)
    try:
        named = plain_names(states, family.encoder)
        theirs = tokens.reorder(family.read_weights(named, shape), shape.vocab_size)
    except UserError as error:
        raise UserError(f"{weights}: {error}") from error
    has_head = "bias" in theirs
    if not has_head:
        _refuse_lost_head(config, weights)
        ours = model.state_dict().items()
        zeros = {name: torch.zeros_like(w) for name, w in ours if not name.startswith("encoder.")}
        theirs = zeros | theirs
    check_shapes(weights, theirs, model.state_dict(), CONFIG)
    check_finite(weights, theirs)
    model.load_state_dict(theirs)
    return ReadFolder(model, tokens.tokenization, weights, has_head)


def _refuse_lost_head(config: dict[str, Any], weights: Path) -> None:
    """A model of another class has no head of masked prediction; one of these has lost it."""
    for name in config.get("architectures") or []:
        if str(name).endswith(("ForMaskedLM", "ForPreTraining")):
            raise UserError(
                f"{weights}: found no head of masked prediction, wanted all of a {name}"
            )


def _weights_file(folder: Path) -> Path:
    for name in (WEIGHTS, PICKLED_WEIGHTS):
        if (folder / name).is_file():
            return folder / name
        if (folder / f"{name}.index.json").is_file():
            raise UserError(f"{folder / name}: found weights in several files, wanted one file")
    raise UserError(f"{folder}: no weights there, wanted {WEIGHTS} or {PICKLED_WEIGHTS}")


def _read_weights(path: Path) -> Weights:
    try:
        if path.name == WEIGHTS:
            states = load_file(path)
        else:
            states = load_plain(path, "cpu", "the weights of a model")
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: is damaged ({reason[:120]})") from error
    if not isinstance(states, dict) or not all(map(torch.is_tensor, states.values())):
        raise UserError(f"{path}: found no table of named tensors, wanted the weights of a model")
    return states
