"""Small tables that strategies look up, made once for each device."""

from collections.abc import Callable, Hashable
from functools import wraps

import torch
from torch import Tensor

MOST = 64  # a ramp goes through some twenty values


def made_once(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keep the tables that a function makes; constants to torch.compile.

    (`functools.lru_cache` is ignored by torch.compile, which would trace the making instead.)
    """
    kept: dict[Hashable, Tensor] = {}

    @torch.compiler.assume_constant_result
    @wraps(make)
    def table(*key: Hashable) -> Tensor:
        if key not in kept:
            if len(kept) >= MOST:
                kept.clear()
            kept[key] = make(*key)
        return kept[key]

    return table
