"""The tokens of a folder: which tokenization they are, and where each of ours is among them.

Published vocabularies have the same words in orders of their own: DNABERT-2 begins with [UNK], and
Nucleotide Transformer has special tokens of other names (`<cls>`) in front and behind. Their
weights have a row per token in that order; ours are the same rows in the order of our ids.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cmgems.errors import UserError
from cmgems.hub.conversion import Weights
from cmgems.tokenization import (
    NonOverlappingKmers,
    OverlappingKmers,
    SingleBases,
    Tokenization,
)
from cmgems.tokenization.base import FIRST_TOKEN, SEP, SPECIAL_TOKENS
from cmgems.tokenization.bpe_file import TOKENIZER, read_byte_pairs
from cmgems.tokenization.kmers import K_VALUES

VOCABULARY, SETTINGS = "vocab.txt", "tokenizer_config.json"
# ESM's names of our special tokens; it has others besides, which we do not use (<bos>).
ESM_NAMES = dict(zip(("<pad>", "<unk>", "<cls>", "<eos>", "<mask>"), SPECIAL_TOKENS, strict=True))
NEVER = -1e4  # the logit of a special token that they do not have
WORDS, OUTPUT, BIAS = "encoder.tokens.weight", "decoder.weight", "bias"


class FolderTokens(NamedTuple):
    """The tokens of a folder."""

    path: Path  # the file that lists them
    tokenization: Tokenization
    their_ids: Tensor  # int64 [V]: the id there of each of our tokens; -1: they have no such one
    num_tokens: int  # in their vocabulary
    closed: bool  # whether [SEP] ends a sequence

    def check_rows(self, rows: int) -> None:
        """Refuse weights with another number of rows than there are tokens. (A vocabulary may list
        special tokens behind the last row, which nothing was trained with.)

        Raises
        ------
        UserError
        """
        unused = not self.closed and int(self.their_ids[SEP]) >= rows
        needed = int(self.their_ids[torch.arange(len(self.their_ids)) != SEP].max()) + 1
        if rows != self.num_tokens and not (unused and rows == needed):
            raise UserError(
                f"vocab_size: found {rows}, but {self.path.name} has {self.num_tokens} tokens"
            )

    def reorder(self, weights: Weights, rows: int) -> Weights:
        """Weights under our names with the rows of the vocabulary in the order of our ids.

        Raises
        ------
        UserError
            If a weight has another number of rows.
        """
        there = (self.their_ids >= 0) & (self.their_ids < rows)
        ids = self.their_ids.where(there, 0)
        ours = dict(weights)
        for name in (WORDS, OUTPUT, BIAS):
            if name not in weights:
                continue
            if len(weights[name]) != rows:
                raise UserError(f"{name}: found {len(weights[name])} rows, wanted {rows}")
            ours[name] = weights[name][ids]
            ours[name][~there] = NEVER if name == BIAS else 0.0
        return ours


def read_tokens(folder: Path) -> FolderTokens:
    """The tokens of a folder, from its tokenizer.json of byte pairs, or else its vocab.txt or
    tokenizer.json of words.

    Raises
    ------
    UserError
        If they are not those of a tokenization that cmgems has.
    """
    fast = folder / TOKENIZER
    if fast.is_file() and (read_json(fast).get("model") or {}).get("type") == "BPE":
        tokenization: Tokenization = read_byte_pairs(str(fast))
        tokens = _words(fast)
        listed = folder / VOCABULARY
        if listed.is_file() and set(listed.read_text().split()) != set(tokens):
            raise UserError(f"{fast}: found another vocabulary than {VOCABULARY} has")
        return FolderTokens(fast, tokenization, _ids(fast, tokens, tokenization), len(tokens), True)
    path, tokens = _read_vocabulary(folder)
    is_esm = "<cls>" in tokens
    if is_esm:
        tokens = [ESM_NAMES.get(token, token) for token in tokens]
    tokenization = _tokenization_of(path, [token for token in tokens if not _is_special(token)])
    closed = _read_closed(folder, "eos_token" if is_esm else "sep_token", is_esm)
    if not closed and not isinstance(tokenization, NonOverlappingKmers):
        raise UserError(
            f"{folder / SETTINGS}: found no token that ends a sequence, wanted [SEP] behind "
            f"{tokenization.description}"
        )
    ids = _ids(path, tokens, tokenization, () if closed else (SPECIAL_TOKENS[SEP],))
    return FolderTokens(path, tokenization, ids, len(tokens), closed)


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file.

    Raises
    ------
    UserError
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: found {type(content).__name__}, wanted an object of keys")
    return content


def _read_vocabulary(folder: Path) -> tuple[Path, list[str]]:
    """(file, tokens in the order of their ids); transformers 5 saves no vocab.txt."""
    text, fast = folder / VOCABULARY, folder / TOKENIZER
    if text.is_file():
        return text, text.read_text().split()
    if not fast.is_file():
        raise UserError(f"{folder}: no vocab.txt there, wanted the tokens, one per line")
    return fast, _words(fast)


def _words(path: Path) -> list[str]:
    """The tokens of a tokenizer.json in the order of their ids."""
    ids = read_json(path).get("model", {}).get("vocab")
    if not isinstance(ids, dict) or set(ids.values()) != set(range(len(ids))):
        raise UserError(f"{path}: no vocabulary with the ids 0 to its size, wanted all tokens")
    return sorted(ids, key=ids.__getitem__)


def _is_special(token: str) -> bool:
    return token[:1] in ("[", "<")


def _tokenization_of(path: Path, words: list[str]) -> Tokenization:
    """The one with these words, in any order."""
    kmers = (*map(OverlappingKmers, K_VALUES), *map(NonOverlappingKmers, K_VALUES))
    known: tuple[Tokenization, ...] = (*kmers, SingleBases())
    sizes = {each.vocab_size - FIRST_TOKEN: each for each in known}
    if len(words) not in sizes:
        raise UserError(
            f"{path}: found {len(words)} tokens that are not special, wanted "
            f"{', '.join(map(str, sizes))} (all k-mers of 3, 4, 5 or 6 bases, or A, T, C, G and N, "
            f"or both)"
        )
    return sizes[len(words)]


def _read_closed(folder: Path, key: str, is_esm: bool) -> bool:
    """Whether the folder's tokenizer ends a sequence in a special token: ESM's does so by default,
    Nucleotide Transformer's has `eos_token: null`."""
    path = folder / SETTINGS
    if not path.is_file():
        if is_esm:
            raise UserError(f"{folder}: no {SETTINGS} there, wanted the one that has {key}")
        return True
    return read_json(path).get(key, "") is not None


def _ids(
    path: Path, tokens: list[str], tokenization: Tokenization, optional: Collection[str] = ()
) -> Tensor:
    """int64 [V]: the place of each of our tokens among theirs."""
    places = {token: place for place, token in enumerate(tokens)}
    if len(places) < len(tokens):
        twice = next(token for place, token in enumerate(tokens) if places[token] != place)
        raise UserError(f"{path}: found {twice} twice, wanted each token once")
    missing = [t for t in tokenization.vocabulary if t not in places and t not in optional]
    if missing:
        raise UserError(
            f"{path}: found no token {missing[0]}, wanted those of {tokenization.description}"
        )
    return torch.tensor([places.get(token, -1) for token in tokenization.vocabulary])
