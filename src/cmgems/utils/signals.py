"""Signals that ask a process to save what it has and stop."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None]

# A second one of these means "now": Ctrl-C, and what ends a job.
KILLING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# These may come twice for one reason: a closed terminal or ssh session, from the kernel and from
# the shell; Slurm's warning before the end of a job.
STOP_SIGNALS = (*KILLING_SIGNALS, signal.SIGHUP, signal.SIGUSR1)


def handle_stop_signals(handler: Handler) -> None:
    """Let a handler have these signals, but for a SIGHUP that `nohup` ignores."""
    for number in STOP_SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def let_the_next_kill() -> None:
    """After one of these signals: the next that means it ends the process at once."""
    for number in STOP_SIGNALS:
        kills = number in KILLING_SIGNALS
        signal.signal(number, signal.SIG_DFL if kills else signal.SIG_IGN)


@contextmanager
def stop_signals_handled(handler: Handler) -> Iterator[None]:
    """Let a handler have these signals, and restore their handlers at the end."""
    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    handle_stop_signals(handler)
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
