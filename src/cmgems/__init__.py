"""cmgems: curriculum masking for gene transformers.

    >>> import cmgems
    >>> cmgems.load_genome("sample").bases
    4000000

The functions are in `cmgems.api`, `docs/python.md` shows them at work. They are imported when they
are first used, so that `import cmgems` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names for type checkers and editors, which do not run __getattr__
    from cmgems.api import (
        compare,
        evaluate,
        load_evaluation,
        load_experiment,
        load_genome,
        load_pretrained,
        mask,
        pmi_table,
        pretrain,
        windows,
    )
    from cmgems.config.schema import Experiment
    from cmgems.difficulty.table import PmiTable
    from cmgems.errors import UserError
    from cmgems.evaluation.config import Evaluation
    from cmgems.genome.genome import Genome
    from cmgems.inference.model import PretrainedModel
    from cmgems.inspection.masked_sequence import MaskedSequence

__version__ = "0.1.0"
__all__ = [
    "Evaluation",
    "Experiment",
    "Genome",
    "MaskedSequence",
    "PmiTable",
    "PretrainedModel",
    "UserError",
    "__version__",
    "compare",
    "evaluate",
    "load_evaluation",
    "load_experiment",
    "load_genome",
    "load_pretrained",
    "mask",
    "pmi_table",
    "pretrain",
    "windows",
]

# where the classes are; the functions are in cmgems.api
_CLASSES = {
    "Evaluation": "cmgems.evaluation.config",
    "Experiment": "cmgems.config.schema",
    "Genome": "cmgems.genome.genome",
    "MaskedSequence": "cmgems.inspection.masked_sequence",
    "PmiTable": "cmgems.difficulty.table",
    "PretrainedModel": "cmgems.inference.model",
    "UserError": "cmgems.errors",
}


if not TYPE_CHECKING:  # a type checker that sees it takes any name for a good one

    def __getattr__(name: str) -> Any:
        """Import a name of `__all__` when it is first used (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_CLASSES.get(name, "cmgems.api")), name)
        globals()[name] = value  # the next time, this function is not asked
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
