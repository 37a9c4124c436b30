"""Where cmgems keeps what it can make or fetch again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The cache: $CMGEMS_CACHE, else $XDG_CACHE_HOME/cmgems, else ~/.cache/cmgems."""
    if folder := os.environ.get("CMGEMS_CACHE"):
        return Path(folder).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "cmgems"
