"""The commands ``jaxdefense audit`` and ``jaxdefense report``."""

import dataclasses
import os
import re
import shlex
import sys
import traceback
from pathlib import Path
from typing import Annotated

import tyro

from jaxdefense.cli.launching import one_line_errors, take
from jaxdefense.cli.subject import Subject
from jaxdefense.errors import InputError, JaxdefenseError, UnknownNameError


@dataclasses.dataclass(frozen=True)
class Audit(Subject):
    """Is this defence real? Every attacker a strict reviewer would try; a verdict on each claim.

    MODEL is ``module:name``: a `jaxdefense.Defence`, a `jaxdefense.Purified`, any callable
    ``x -> logits`` for images [b, h, w, c] in [0, 1], or a function without arguments that returns
    one of these. Example:

        jaxdefense audit my_defence:build --data mnist --budget quick --claim 0.92@linf:0.3

    Exit status 0 where every claim holds, 1 where one is weakened or broken, 2 where the evaluation
    is unreliable or attackers were left out, 3 where something stands in the way of an audit.
    Writes audit.json, audit.md and audit.html.
    """

    radii: tuple[float, ...] | None = None
    """in pixel units of [0, 1]; a usual grid of the norm by default. Radii of claims are added"""
    budget: str = "standard"
    """quick (minutes), standard, or thorough (hours)"""
    claim: Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction] = ()
    """such as 0.92@linf:0.3: robust accuracy at a radius; several are judged one by one"""
    seconds: float | None = None
    """begin no further network or attacker after so much time"""
    train: bool = True
    """let attackers train networks on the data set's training split"""
    only: str | None = None
    """repeat one attacker, as the report names it, and those it goes on from"""
    output: str | None = None
    """folder for the report and for finished attackers, from which a killed audit goes on;
    runs/audit-MODEL-DATA-NORM by default"""

    def run(self) -> None:
        """Prints the audit and writes its reports."""
        with one_line_errors(status=3):
            try:
                status = self._run()
            except JaxdefenseError:
                raise
            except (Exception, SystemExit):  # of the user's code too: 0 and 1 would be verdicts
                traceback.print_exc()
                raise SystemExit(3) from None
        raise SystemExit(status)

    def _run(self) -> int:
        import jaxdefense
        from jaxdefense.auditing import audit
        from jaxdefense.auditing.defence import as_defence
        from jaxdefense.geometry import BALLS
        from jaxdefense.reporting.audits import write_audit

        if self.norm not in BALLS:
            raise UnknownNameError("norm of an audit", self.norm, BALLS)
        given, x, y, key, source, chosen = self.load_all(jaxdefense.Defence)
        defence = as_defence(given)
        name = f"{self.model.replace(':', '-')}-{Path(self.data).stem}-{self.norm}"
        if defence.name == "defence":
            defence = dataclasses.replace(defence, name=self.model)
        if self.train and defence.train is None and len(chosen.x_train):
            defence = dataclasses.replace(defence, train=(chosen.x_train, chosen.y_train))
        output = Path(self.output or f"runs/audit-{name.rpartition('/')[2]}")
        # What repeats one attacker does not take the place of the whole.
        slug = re.sub(r"[^a-z0-9]+", "-", (self.only or "").lower()).strip("-")
        reports = output / f"only-{slug}" if self.only else output
        words = take([word for word in sys.argv[1:] if word], "--only", "")[1]
        found = audit(
            defence, x, y, self.radii, key,
            ball=BALLS[self.norm], budget=self.budget, claims=sum(self.claim, ()),
            seconds=self.seconds, folder=output / "attackers", only=self.only,
            about=source.replace("\n", ", "),
            command=shlex.join([*_surroundings(), "jaxdefense", *words]),
        )  # fmt: skip
        print(found)
        if not sum(self.claim, ()):
            print(
                "no claim to judge (--claim 0.9@linf:0.1): exit status 0 says only that no check "
                "failed, whatever accuracy is left"
            )
        version = {"jaxdefense": jaxdefense.__version__}
        for path in write_audit(reports, found, version):
            print(path)
        return found.exit_status


def _surroundings() -> list[str]:
    """Settings of the environment that a module may read, in front of the command that repeats."""
    found = {name: value for name, value in os.environ.items() if name.startswith("JAXDEFENSE_")}
    told = [f"{name}={value}" for name, value in sorted(found.items()) if "CACHE" not in name]
    return ["env", *told] if told else []


@dataclasses.dataclass(frozen=True)
class Report:
    """One page over many audits, to sort and to filter by data set, norm and threat model.

    RUNS are folders with an audit.json each, or audit.json files. Example:

        jaxdefense report runs/audit-*
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    output: str = "runs/leaderboard.html"
    """the page"""

    def run(self) -> None:
        """Writes the page."""
        from jaxdefense.reporting.leaderboard import write_leaderboard

        if not self.runs:
            raise InputError("name at least one folder of an audit, for example runs/audit-*")
        print(write_leaderboard(self.output, self.runs))
