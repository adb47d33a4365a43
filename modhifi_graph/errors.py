"""What a user can get wrong, and what the command line exits with."""


class ModhifiError(Exception):
    """One clear message for the user; the command line prints it, without a traceback, and exits with `exit_code`."""

    exit_code: int = 1


class InputError(ModhifiError):
    """Something given to us cannot be used. The message names the file, the node and the remedy."""

    exit_code = 2


class VerificationError(ModhifiError):
    """The slim graph is not the graph that was meant to be emitted, so nothing was written."""

    exit_code = 3


def first_line(error: BaseException) -> str:
    """What an exception says first; PyTorch's messages run to pages."""
    return next(iter(str(error).strip().splitlines()), repr(error))
