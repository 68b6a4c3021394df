"""What ends the command before it did anything."""


class Refused(Exception):
    """The command cannot, or should not, be done; the text says why and how to go on. Exit code 2."""
