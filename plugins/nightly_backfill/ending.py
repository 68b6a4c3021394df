"""The exit codes of the command, and the error that refuses it."""

OK, SOME_FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""


class RefusedError(Exception):
    """The command cannot or should not run; the text says why and what to do. The exit code is `REFUSED`."""
