"""Files that `torch.save` wrote, read without running what they hold."""

import re
from pathlib import Path
from typing import Any

import torch

from cmgems.errors import UserError


def load_plain(path: Path, map_location: Any, wanted: str) -> Any:
    """Tensors and plain containers of them; nothing else is unpickled.

    Parameters
    ----------
    path : Path
    map_location : as in `torch.load`; `meta` reads no tensors
    wanted : ends the message

    Raises
    ------
    UserError
        If the file is damaged, or holds anything else.
    """
    try:
        # whatever TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD says
        return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # a damaged pickle may raise any
        raise UserError(f"{path}: {_reason(error)}, wanted {wanted}") from error


def _reason(error: Exception) -> str:
    """In one line, without torch's advice to unpickle everything."""
    if (refused := re.search(r"\bGLOBAL (\S+)", str(error))) is not None:
        return f"refers to the code {refused[1][:80]!r}, which was not run"
    if "weights_only" in str(error):
        return "holds more than tensors and plain values, and was not unpickled"
    lines = str(error).strip().splitlines()
    return f"is damaged ({type(error).__name__}: {lines[0][:120] if lines else 'no reason'})"
