"""`launch` for experiment scripts: presets, options, one-line errors, compilation cache."""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import tyro

from jaxdefense.errors import JaxdefenseError, UnknownNameError
from jaxdefense.programs import use_compilation_cache

Config = TypeVar("Config")


def launch(
    main: Callable[[Config], None],
    presets: Mapping[str, Config],
    default: str,
    arguments: Sequence[str] | None = None,
) -> None:
    """Runs an experiment script: preset, options, one-line errors, compilation cache.

    Args:
        main: takes the configuration.
        presets: name to configuration (frozen dataclasses of one type).
        default: the preset used without ``--preset``.
        arguments: of the command line; ``sys.argv`` by default.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with one_line_errors():
        preset, rest = take(arguments, "--preset", default)
        if preset not in presets:
            raise UnknownNameError("preset", preset, presets)
        description = (
            f"{main.__doc__ or ''}\n\n--preset {{{','.join(presets)}}} (default {default})"
        )
        base = presets[preset]
        config = tyro.cli(type(base), default=base, args=rest, description=description)
        use_compilation_cache()
        main(config)


def take(arguments: list[str], name: str, default: str) -> tuple[str, list[str]]:
    """The value of one option, and the arguments without it."""
    value, rest, remaining = default, [], iter(arguments)
    for argument in remaining:
        if argument == name:
            value = next(remaining, "")
        elif argument.startswith(f"{name}="):
            value = argument.partition("=")[2]
        else:
            rest.append(argument)
    return value, rest


class one_line_errors:
    """An error the user can act on ends the program as one message, without a traceback.

    Args:
        status: that the program exits with then.
    """

    def __init__(self, status: int = 1) -> None:
        self.status = status

    def __enter__(self) -> None:
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, JaxdefenseError):
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(self.status) from None
        if isinstance(error, KeyboardInterrupt):
            print("interrupted: run the same command again to go on", file=sys.stderr)
            raise SystemExit(130) from None
