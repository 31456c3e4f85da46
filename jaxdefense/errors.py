"""Errors a user can act on: each says what is wrong, why, and what to do.

The command line prints them as one message without a traceback.
"""

import difflib
from collections.abc import Iterable


class JaxdefenseError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(JaxdefenseError, ValueError):
    """An argument is out of range, of the wrong shape or in the wrong unit."""


class UnknownNameError(InputError):
    """A name that is not in a registry: data set, model, attack, preset."""

    def __init__(self, kind: str, name: str, known: Iterable[str]):
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        super().__init__(f"unknown {kind} {name!r}: {hint}known are {', '.join(known)}")


class DataError(JaxdefenseError, RuntimeError):
    """Data that is missing, truncated or not what its name says."""


class MissingDataError(DataError):
    """Data that is nowhere to be found."""


class CheckpointError(JaxdefenseError, RuntimeError):
    """A checkpoint that is missing, damaged or of another configuration."""


class TrainingError(JaxdefenseError, RuntimeError):
    """Training that cannot go on, for example because the loss is not finite."""
