"""Predictions of a saved classifier: as those of `cmgems evaluate`, on the strands that it was
trained on, sequences with too many tokens cut to their middle.

Shapes: N sequences, C columns (classes, or the value of a regression).
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cmgems.errors import UserError
from cmgems.evaluation.finetuning.classifier import LoadedClassifier
from cmgems.evaluation.prediction.inputs import Item
from cmgems.tasks.dataset import Sequences, pack_codes
from cmgems.tasks.tokens import batches, tokenize

VALUE = "value"  # the column of a regression
_ITEMS, _BASES = 1024, 1 << 24  # that are read before they are predicted together


class Predictor:
    """A classifier on a device.

    Attributes
    ----------
    columns : names of the C columns: the classes, or `value`
    cut : sequences so far whose middle alone was read

    Raises
    ------
    UserError
        If it labels each token, or was saved without the unit of its values.
    """

    def __init__(self, loaded: LoadedClassifier, device: str = "cpu", bf16: bool = False) -> None:
        self.kind: str = loaded.description["kind"]
        if loaded.head == "token":
            raise UserError("found a classifier with the head token, wanted one per sequence")
        if self.kind == "regression" and "scale" not in loaded.description:
            raise UserError("found a regression without the unit of its values: train it again")
        self.mean, self.deviation = loaded.description.get("scale", (0.0, 1.0))
        self.tokenization, self.bf16, self.cut = loaded.tokenization, bf16, 0
        self.classifier = loaded.classifier.to(device)
        self.both_strands = loaded.description["strands"] == "both"
        self.columns: tuple[str, ...] = tuple(loaded.description["classes"]) or (VALUE,)

    def predict(self, data: Sequences) -> np.ndarray:
        """float32 [N, C]: probabilities of the classes, or values in the unit of the labels.

        Those of a multilabel task are each on their own, of all others they sum to 1.

        Raises
        ------
        UserError
            If a sequence is too short to have a token.
        """
        logits = self._logits(data)
        if self.both_strands:
            logits = (logits + self._logits(data.reverse_complement())) / 2
        if self.kind == "regression":
            return (logits * self.deviation + self.mean).numpy()
        return (logits.sigmoid() if self.kind == "multilabel" else logits.softmax(1)).numpy()

    def _logits(self, data: Sequences) -> Tensor:
        positions = self.classifier.encoder.config.max_position_embeddings
        tokens = tokenize(data, self.tokenization, positions)
        logits = torch.empty(len(data), len(self.columns))
        for index in batches(tokens):
            logits[index] = self.classifier(tokens.select(index), self.bf16).cpu()
        return logits

    def predict_items(self, items: Iterator[Item]) -> Iterator["PredictedItems"]:
        """Predictions of all items in their order, some at a time."""
        for chunk in _chunks(items):
            checked = [self._checked(item) for item in chunk]
            rows = np.array([not item.why for item in checked], bool)
            values = np.full((len(checked), len(self.columns)), np.nan, np.float32)
            if rows.any():
                data = pack_codes(item.codes for item in checked if not item.why)
                self._count_cut(data)
                values[rows] = self.predict(data)
            yield PredictedItems(checked, values)

    def _checked(self, item: Item) -> Item:
        least, found = self.tokenization.min_bases, len(item.codes)
        if item.why or found >= least:
            return item
        return item._replace(why=f"too short: {found} bases, wanted at least {least}")

    def _count_cut(self, data: Sequences) -> None:
        if not self.tokenization.on_host:  # otherwise the tokens of a length differ in number
            positions = self.classifier.encoder.config.max_position_embeddings
            self.cut += int((data.lengths > self.tokenization.max_bases(positions)).sum())


class PredictedItems(NamedTuple):
    """N items and what was predicted of them."""

    items: list[Item]
    values: np.ndarray  # float32 [N, C]; nan where an item says why not

    def reasons(self) -> Counter[str]:
        """How many have no prediction, by the reason."""
        return Counter(item.why.partition(":")[0] for item in self.items if item.why)


def _chunks(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Lists of items that are not too many and, unless one is, not too long."""
    chunk: list[Item] = []
    bases = 0
    for item in items:
        chunk.append(item)
        bases += len(item.codes)
        if len(chunk) == _ITEMS or bases >= _BASES:
            yield chunk
            chunk, bases = [], 0
    if chunk:
        yield chunk
