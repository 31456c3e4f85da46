"""The command line: `launch` for experiment scripts, and the console script ``jaxdefense``."""

from collections.abc import Sequence
from typing import Annotated

import tyro

from jaxdefense.cli.auditing import Audit, Report
from jaxdefense.cli.commands import Autoattack, List, Prepare, Sweep
from jaxdefense.cli.launching import launch as launch
from jaxdefense.cli.launching import one_line_errors
from jaxdefense.cli.launching import use_compilation_cache as use_compilation_cache

Command = (
    Annotated[Audit, tyro.conf.subcommand("audit")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Sweep, tyro.conf.subcommand("sweep")]
    | Annotated[Autoattack, tyro.conf.subcommand("autoattack")]
    | Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Prepare, tyro.conf.subcommand("prepare")]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    with one_line_errors():
        command = tyro.cli(
            Command,
            config=(tyro.conf.OmitSubcommandPrefixes,),
            args=arguments,
            prog="jaxdefense",
            description="Does this defence really make a classifier robust?",
        )
        use_compilation_cache()
        command.run()
