"""The one error that a user can cause."""


class UserError(Exception):
    """What the user gave cannot be used.

    The message is one line: which file or key, what was found, what is wanted.
    The command line prints it on standard error and ends with exit code 2.
    """
