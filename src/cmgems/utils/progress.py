"""Progress bars: on a terminal, from the first second on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    total: int, what: str, unit: str, show: bool = True
) -> Iterator[Callable[[int], object]]:
    """Yields a function to call with the amount that was done since the last call."""
    from tqdm import tqdm

    with tqdm(
        total=total,
        desc=what,
        unit=unit,
        unit_scale=True,
        delay=0.5,
        leave=False,
        disable=None if show else True,  # None: shown on a terminal only
    ) as bar:
        yield bar.update
