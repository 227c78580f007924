"""One exception for everything the user can put right."""

__all__ = ["BadInput"]


class BadInput(ValueError):
    """Something given from outside cannot be used.

    The message is one sentence that names the value and what is allowed instead; the command line
    prints it without a traceback and exits with code 2.
    """
