"""One file a command: `configure(parser)` declares its arguments, `run(args)` does it.

A command module imports at its top only what its `--help` needs; what is heavy
(torch, lightning, numba) is imported inside `run`, so that `cmgems --help` is instant.
The table of commands is in `cmgems.cli`.
"""
