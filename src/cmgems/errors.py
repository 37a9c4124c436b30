"""Errors with a meaning to the command line, which prints their message and exits with a code."""


class UserError(Exception):
    """What the user gave cannot be used.

    The message is one line: which file or key, what was found, what is wanted.
    The command line prints it on standard error and ends with exit code 2.
    """


class RunFailed(Exception):
    """A run cannot continue. The message is one line; the command line ends with this exit code.

    Parameters
    ----------
    message : str
    exit_code : int
        1, or 128 + n where signal n has stopped another rank of the run.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class RunStopped(Exception):
    """A signal ended a run after its state was saved, or before there was any.

    Parameters
    ----------
    signal_number : int
    step : int
        Optimizer steps that the run had taken; 0: nothing is saved.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        saved = f"at step {step}, state saved" if step else "before the first step"
        super().__init__(f"stopped {saved}")
        self.signal_number = signal_number


class SweepStopped(RunStopped):
    """A signal ended a sweep after its runs had saved themselves."""

    def __init__(self, signal_number: int, runs: int):
        super().__init__(signal_number, 0)
        self.runs = runs

    def __str__(self) -> str:
        return f"stopped, with {self.runs} runs under way; the same command resumes them"
