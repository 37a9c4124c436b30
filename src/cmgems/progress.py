"""Progress bars for work on files: on a terminal, from the first second on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def byte_bar(total: int, what: str, show: bool = True) -> Iterator[Callable[[int], object]]:
    """Yields a function to call with the number of bytes that were done."""
    from tqdm import tqdm

    with tqdm(
        total=total,
        desc=what,
        unit="B",
        unit_scale=True,
        delay=0.5,
        leave=False,
        disable=None if show else True,  # None: shown on a terminal only
    ) as bar:
        yield bar.update
