"""A small grid, and signals to this process at the right moment."""

import os
import signal
import threading
import time

GRID = "axes: {masking: {easy: {curriculum.strategies: [random]}, "
GRID += "hard: {curriculum: {strategies: [global_pmi]}}}, seed: [0, 1]}\n"


def interrupt_when(ready, signals):
    """Send this process signals as soon as `ready()` is true, while something handles them: one
    that came after the end would kill the tests."""
    unhandled = {number: signal.getsignal(number) for number in signals}

    def watch():
        until = time.monotonic() + 120
        while not ready() and time.monotonic() < until:
            time.sleep(0.01)
        for number in signals:
            if signal.getsignal(number) != unhandled[number]:
                os.kill(os.getpid(), number)
            time.sleep(0.2)

    threading.Thread(target=watch, daemon=True).start()
