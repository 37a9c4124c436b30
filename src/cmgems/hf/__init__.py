"""For training loops of Hugging Face's transformers: the masks, the curriculum and the tokens.

    from cmgems.hf import CollatorCallback, CurriculumCollator, Tokenizer

`CurriculumCollator` needs torch alone; `CollatorCallback`, which moves it, and `Tokenizer` need
transformers, which is imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cmgems.errors import UserError

if TYPE_CHECKING:
    from cmgems.hf.callback import CollatorCallback
    from cmgems.hf.collator import CurriculumCollator
    from cmgems.hf.tokenizer import Tokenizer

__all__ = ["CollatorCallback", "CurriculumCollator", "Tokenizer"]

_MODULES = {
    "CollatorCallback": "cmgems.hf.callback",
    "CurriculumCollator": "cmgems.hf.collator",
    "Tokenizer": "cmgems.hf.tokenizer",
}


if not TYPE_CHECKING:  # a type checker that sees it takes any name for a good one

    def __getattr__(name: str) -> Any:
        """Import a name of `__all__` when it is first used (PEP 562)."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return getattr(import_module(_MODULES[name]), name)
        except ModuleNotFoundError as error:
            if error.name != "transformers":
                raise
            raise UserError(
                f"cmgems.hf.{name}: transformers is not installed; "
                "pip install 'transformers>=5,<6' accelerate"
            ) from None
