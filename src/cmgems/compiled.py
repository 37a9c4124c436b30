"""Compiled kernels, kept on disk between runs wherever that is possible."""

from collections.abc import Callable

from numba import njit


def kernel(function: Callable) -> Callable:
    """Compile a function with numba, without the interpreter's lock.

    The machine code is kept beside the module, or in the user's cache folder where the package
    cannot be written to. Where neither can (a container without a home) numba refuses to keep
    it at all, with an error; it is then compiled in each process, which costs a few seconds.
    """
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return njit(nogil=True)(function)
