"""Byte pairs in files: read one of `tokenizers`, or learn one from a genome."""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, trainers

from cmgems.errors import UserError
from cmgems.genome.alphabet import BASES
from cmgems.genome.genome import Genome
from cmgems.genome.spans import unambiguous_spans
from cmgems.tokenization.base import FIRST_TOKEN, SPECIAL_TOKENS
from cmgems.tokenization.bpe import MAX_VOCABULARY, BytePairs, letters_of
from cmgems.utils.files import atomic_write, file_lock
from cmgems.utils.progress import progress_bar

TOKENIZER = "tokenizer.json"  # in a folder with a model
WANTED = "wanted a tokenizer.json of byte pairs of A, C, G and T"
TRAINING_PIECE = 1_000  # bases
TRAINING_PIECES = 20_000  # at most: more DNA changes few merges


def read_byte_pairs(path: str, k: int = 6) -> BytePairs:
    """Read a tokenizer.json, as `tokenizers` writes them.

    The five special tokens have the first ids, in any order: ours replaces it.

    Raises
    ------
    UserError
        If it is not one of byte pairs over DNA, or lacks a special token.
    """
    try:
        changed = Path(path).stat().st_mtime_ns
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {WANTED}") from error
    return _read(path, changed, k)


@lru_cache(maxsize=8)
def _read(path: str, changed: int, k: int) -> BytePairs:
    """A run asks several times for the same file."""
    model = _model(path)
    ids = model.get("vocab")
    if not isinstance(ids, dict) or set(ids.values()) != set(range(len(ids))):
        raise UserError(f"{path}: has no vocabulary with the ids 0 to its size; {WANTED}")
    tokens = sorted(ids, key=ids.__getitem__)
    special, rest = tokens[:FIRST_TOKEN], tuple(tokens[FIRST_TOKEN:])
    missing = [token for token in SPECIAL_TOKENS if token not in special]
    if missing:
        raise UserError(
            f"{path}: has no {missing[0]} among its first {FIRST_TOKEN} tokens; wanted "
            f"{', '.join(SPECIAL_TOKENS)}"
        )
    foreign = [token for token in rest if not token or token.strip(BASES)]
    if foreign:
        raise UserError(f"{path}: has the token {foreign[0]!r}; {WANTED}")
    lacking = [base for base in BASES if base not in rest]
    if lacking:
        raise UserError(f"{path}: has no token for the single base {lacking[0]}; {WANTED}")
    if len(tokens) > MAX_VOCABULARY:
        raise UserError(f"{path}: has {len(tokens):,} tokens, wanted at most {MAX_VOCABULARY:,}")
    return BytePairs(rest, _merges(path, model, set(rest)), k, source=path)


def _model(path: str) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {WANTED}") from error
    except ValueError as error:
        raise UserError(f"{path}: cannot be read as JSON; {WANTED}") from error
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or model.get("type") != "BPE":
        found = model.get("type") if isinstance(model, dict) else None
        raise UserError(f"{path}: found the model {found!r}, not BPE; {WANTED}")
    return model


def _merges(path: str, model: dict[str, Any], tokens: set[str]) -> tuple[tuple[str, str], ...]:
    """The pairs, which older files join by a blank."""
    merges = []
    for merge in model.get("merges") or ():
        pair = tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge)
        if len(pair) != 2 or not {*pair, "".join(pair)} <= tokens:
            raise UserError(f"{path}: has the merge {merge!r}, whose tokens it lacks; {WANTED}")
        merges.append((pair[0], pair[1]))
    return tuple(merges)


def genome_byte_pairs(genome: Genome, vocab_size: int, k: int) -> BytePairs:
    """Those of a genome, learned when first asked for and kept in its store.

    Raises
    ------
    UserError
        If the store cannot be written to.
    """
    path = genome.path / "bpe" / f"{vocab_size}.json"
    try:
        path.parent.mkdir(exist_ok=True)
        with file_lock(path.with_suffix(".lock"), f"{path}: in use", wait=True):
            if not path.exists():
                trained = train_byte_pairs(genome, vocab_size)
                with atomic_write(path) as handle:
                    handle.write(trained.to_str())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; wanted a genome store to write to") from error
    return read_byte_pairs(str(path), k)


def train_byte_pairs(genome: Genome, vocab_size: int) -> Tokenizer:
    """Learn merges from pieces of 1,000 known bases, spread evenly over a genome."""
    spans = unambiguous_spans(genome.codes)
    counts = -(-(spans.end - spans.start) // TRAINING_PIECE)
    span = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(span)) - (counts.cumsum() - counts)[span]
    starts = spans.start[span] + TRAINING_PIECE * number
    ends = np.minimum(starts + TRAINING_PIECE, spans.end[span])
    chosen = np.unique(np.linspace(0, len(starts) - 1, TRAINING_PIECES).round().astype(int))
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=list(BASES),
        limit_alphabet=len(BASES),
        show_progress=False,
    )

    def texts() -> Iterator[str]:
        with progress_bar(len(chosen), "learning byte pairs", " pieces") as advance:
            for piece in chosen.tolist():
                yield letters_of(genome.codes[starts[piece] : ends[piece]])
                advance(1)

    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer
