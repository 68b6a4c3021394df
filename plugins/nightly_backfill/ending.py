"""How the command ends."""

OK, SOME_FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""


class Refused(Exception):
    """The command cannot, or should not, be done; the text says why and how to go on. Exit code `REFUSED`."""
