"""A tokenizer of transformers that takes plain DNA, for models of overlapping k-mers too."""

from functools import cached_property
from typing import Any

from transformers import BatchEncoding, PreTrainedTokenizerFast

from cmgems.errors import UserError
from cmgems.tokenization.hf import kmer_text


class Tokenizer(PreTrainedTokenizerFast):
    """Plain DNA in either case to the ids of an exported folder, without any remote code.

    A tokenizer.json cannot cut overlapping k-mers out of plain text. This class cuts them first:
    `ACGTACG` becomes `ACGTAC CGTACG`. Text with blanks is taken as k-mers, as DNABERT has it. What
    other tokenizations have in their folder takes plain DNA already, and is used as it is.

    Examples
    --------
    >>> from cmgems.hf import Tokenizer
    >>> from cmgems.hub.folder import write_tokenizer
    >>> from cmgems.tokenization import OverlappingKmers
    >>> import tempfile; from pathlib import Path
    >>> folder = tempfile.TemporaryDirectory()
    >>> write_tokenizer(Path(folder.name), OverlappingKmers(6))
    >>> Tokenizer.from_pretrained(folder.name).tokenize("acgtacgn")
    ['ACGTAC', 'CGTACG', '[UNK]']
    >>> folder.cleanup()
    """

    # Whatever else transformers gives it is passed on.
    def _encode_plus(  # type: ignore[override]
        self, text: Any, text_pair: Any = None, **kwargs: Any
    ) -> BatchEncoding:
        if not kwargs.get("is_split_into_words"):
            text, text_pair = self._kmers(text), self._kmers(text_pair)
        return super()._encode_plus(text, text_pair, **kwargs)

    @cached_property
    def _k(self) -> int:
        """Bases of the overlapping k-mers; 0: the tokens are something else."""
        lengths = {len(token) for token in self.get_vocab() if token[:1] not in ("[", "<")}
        return lengths.pop() if len(lengths) == 1 and lengths != {1} else 0

    def _kmers(self, text: Any) -> Any:
        if isinstance(text, list | tuple):
            return [self._kmers(each) for each in text]
        if not self._k or not text or any(mark in text for mark in " \t\n[<"):
            return text  # k-mers already, or special tokens between them
        if len(text) < self._k:
            raise UserError(f"text: found {len(text)} bases, wanted at least {self._k}")
        return kmer_text(text, self._k)
