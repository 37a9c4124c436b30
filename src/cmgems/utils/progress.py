"""Progress bars, shown on a terminal only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    total: int | None, label: str, unit: str, show: bool = True
) -> Iterator[Callable[[int], object]]:
    """Yields a function to call with the amount that was done since the last call.

    Parameters
    ----------
    total : the amount at the end; None where it is not known: the amount so far is shown
    label : shown before the bar
    unit : of the amounts
    show : false for no bar at all
    """
    from tqdm import tqdm  # most commands show no bar

    with tqdm(
        total=total,
        desc=label,
        unit=unit,
        unit_scale=True,
        delay=0.5,
        leave=False,
        disable=None if show else True,  # None: disabled unless on a terminal
    ) as bar:
        yield bar.update
