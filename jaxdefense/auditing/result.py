"""What an audit returns, and how it reads as text and as JSON."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from tabulate import tabulate

from jaxdefense.auditing.claims import UNRELIABLE, Verdict
from jaxdefense.auditing.controls import Explanation
from jaxdefense.auditing.masking import doubts
from jaxdefense.auditing.plan import Skipped
from jaxdefense.evaluation import Certificate, Check, Robustness

SCHEMA = "jaxdefense.audit/1"
"""Name and version of the JSON; the number grows when a field changes its meaning or goes."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one attacker achieved.

    Attributes:
        name, kind, says: of the `Cell`.
        attack, settings: its name, and all that decides what it does.
        carried: it attacked only what those before it had left standing.
        robust_accuracy, interval: ``[e]``, ``[e, 2]``, after it alone; where it is carried, after
            it and all before it.
        new: ``[e]``: share of the images that it was the first to break.
        gradients, forwards, seconds: what it cost, compiling included; of the run that measured
            it, where an audit was taken up again.
        command: which repeats it.
        warnings: what its sweep warned of.
    """

    name: str
    kind: str
    says: str
    attack: str
    settings: str
    carried: bool
    robust_accuracy: np.ndarray
    interval: np.ndarray
    new: np.ndarray
    gradients: int
    forwards: int
    seconds: float
    command: str = ""
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Audit:
    """What `jaxdefense.audit` returns; ``print`` shows it.

    Attributes:
        name: of the defence.
        norm, radii, n, seed, budget: of the audit; radii ``[e]``.
        clean_accuracy: without an attack.
        outcomes: one for each attacker, in the order they ran.
        skipped: attackers that are missing, and why.
        worst: the worst case over all attackers, image by image.
        explanations: of what the defence withstands when it is not known to the attacker.
        checks: of the attacks, at radius `eps`.
        eps: radius of checks, explanations and examples.
        certificate: where there is one.
        verdicts: on each claim.
        examples: arrays of a few images for reports: ``x``, ``x_adv``, ``y``, ``clean_answer``,
            ``answer`` and, where there is a purifier, ``purified`` and ``purified_adv``.
        surface: offsets and mean loss around the images, where it could be measured.
        meta: data, versions, command, seconds.
        complete: no attacker was left out for time or by `only`.
    """

    name: str
    norm: str
    radii: np.ndarray
    n: int
    seed: tuple[int, ...]
    budget: str
    clean_accuracy: float
    outcomes: tuple[Outcome, ...]
    skipped: tuple[Skipped, ...]
    worst: Robustness
    explanations: tuple[Explanation, ...]
    checks: tuple[Check, ...]
    eps: float
    certificate: Certificate | None
    verdicts: tuple[Verdict, ...]
    examples: Mapping[str, np.ndarray]
    surface: tuple[np.ndarray, np.ndarray] | None
    meta: Mapping[str, Any]
    complete: bool = True

    @property
    def doubts(self) -> list[str]:
        """Names of failed checks without which the worst case may be far too high."""
        return doubts(self.checks)

    @property
    def exit_status(self) -> int:
        """0: all claims hold; 1: one is refuted; 2: nobody can say. Without a claim 0 or 2."""
        if not self.verdicts:
            return 2 if self.doubts or not self.complete else 0
        status = [verdict.exit_status for verdict in self.verdicts]
        return 1 if 1 in status else max(status)

    def to_json(self) -> dict[str, Any]:
        """All but images, as plain values; see `SCHEMA`."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "norm": self.norm,
            "radii": self.radii.tolist(),
            "n": self.n,
            "seed": list(self.seed),
            "budget": self.budget,
            "clean_accuracy": self.clean_accuracy,
            "verdicts": [
                {
                    "accuracy": v.claim.accuracy,
                    "norm": v.claim.norm,
                    "eps": v.claim.eps,
                    "outcome": v.outcome,
                    "robust_accuracy": v.robust_accuracy,
                    "interval": list(v.interval),
                    "decided_by": v.decided_by,
                    "decided_kind": v.decided_kind,
                    "says": v.says,
                }
                for v in self.verdicts
            ],
            "worst": {
                "robust_accuracy": self.worst.robust_accuracy.tolist(),
                "interval": self.worst.interval.tolist(),
                "smallest_radius": [
                    radius if np.isfinite(radius) else None
                    for radius in self.worst.smallest_radius.tolist()
                ],
            },
            "outcomes": [_plain(outcome) for outcome in self.outcomes],
            "skipped": [_plain(row) for row in self.skipped],
            "checks": [dict(check._asdict()) for check in self.checks],
            "explanations": [dict(row._asdict()) for row in self.explanations],
            "eps": self.eps,
            "certificate": self._certificate(),
            "exit_status": self.exit_status,
            "complete": self.complete,
            "meta": dict(self.meta),
        }

    @property
    def warnings(self) -> list[str]:
        """What the sweeps of the attackers warned of."""
        return [f"{o.name}: {said}" for o in self.outcomes for said in o.warnings]

    def _certificate(self) -> dict[str, Any] | None:
        found = self.certificate
        if found is None:
            return None
        return {
            "norm": found.norm, "sigma": found.sigma, "alpha": found.alpha, "draws": found.draws,
            "n": found.n, "accuracy": found.accuracy(self.radii).tolist(),
            "interval": found.interval(self.radii).tolist(), "radius": found.radius.tolist(),
        }  # fmt: skip

    def to_markdown(self) -> str:
        """Verdicts, matrix, explanations, checks and provenance, as a page of Markdown."""
        parts = [f"# Audit of {self.name}", self._verdicts("pipe")]
        for title, text in (
            ("Attackers", self._matrix("pipe")),
            ("What explains it", self._explained("pipe")),
            ("Checks", self._checked("pipe")),
        ):
            if text:
                parts += [f"## {title}", text]
        if self.skipped:
            parts += [
                "## Not tested",
                "\n".join(f"- {row.name}: {row.reason}" for row in self.skipped),
            ]
        if self.warnings:
            parts += ["## Warnings", "\n".join(f"- {said}" for said in self.warnings)]
        parts += [
            "## How it was measured",
            "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in self.meta.items()),
        ]
        return "\n\n".join(parts) + "\n"

    def __str__(self) -> str:
        tables = [self._matrix("simple"), self._explained("simple"), self._checked("simple")]
        missing = [f"not tested: {row.name} ({row.reason})" for row in self.skipped]
        warned = "\n".join(f"warning: {said}" for said in self.warnings)
        return "\n\n".join(
            part for part in [*tables, "\n".join(missing), warned, self._verdicts("simple")] if part
        )

    def _verdicts(self, style: str) -> str:
        mark = "**" if style == "pipe" else ""
        lines = [summary(self)]
        for v in self.verdicts:
            lines.append(
                f"Claim {v.claim}: {mark}{v.outcome}{mark}, decided by {v.decided_by}. {v.says}."
            )
        if not self.verdicts and self.doubts:
            failed = ", ".join(self.doubts)
            lines.append(f"{mark}{UNRELIABLE.capitalize()}{mark}: failed checks: {failed}.")
        if not self.verdicts and not self.complete:
            lines.append(f"{mark}{UNRELIABLE.capitalize()}{mark}: attackers were left out.")
        return ("\n\n" if style == "pipe" else "\n").join(lines)

    def _matrix(self, style: str) -> str:
        radii = [f"{radius:.4g}" for radius in self.radii]
        rows = [
            [
                o.name + (" *" if o.carried else ""),
                o.attack,
                *(f"{100 * accuracy:.1f}" for accuracy in o.robust_accuracy),
                f"{o.gradients / self.n:.0f}",
                f"{o.seconds:.1f}",
            ]
            for o in self.outcomes
        ]
        worst = [f"{100 * accuracy:.1f}" for accuracy in self.worst.robust_accuracy]
        rows.append(["worst case", "all of them", *worst, "", ""])
        head = [f"robust accuracy %, {self.norm}", "attack", *radii, "gradients", "seconds"]
        if self.certificate is not None:
            proven = self.certificate.accuracy(self.radii)
            rows.append(["certified", "none can", *(f"{100 * a:.1f}" for a in proven), "", ""])
        note = (
            "* on what those above left standing; gradients are per image, seconds with compiling"
        )
        table = tabulate(rows, headers=head, tablefmt=style, disable_numparse=True)
        return f"{table}\n\n{note}"

    def _explained(self, style: str) -> str:
        if not self.explanations:
            return ""
        rows = [
            [
                row.name,
                f"{100 * row.clean_accuracy:.1f}",
                f"{100 * row.accuracy:.1f} [{100 * row.interval[0]:.1f}, "
                f"{100 * row.interval[1]:.1f}]",
                row.explains,
            ]
            for row in self.explanations
        ]
        head = ["", "clean %", f"static examples %, {self.norm} {self.eps:.4g}", "explained by"]
        return tabulate(rows, headers=head, tablefmt=style, disable_numparse=True)

    def _checked(self, style: str) -> str:
        number = lambda value: "" if value is None else f"{value:.3g}"
        rows = [[c.name, c.outcome, number(c.value), number(c.limit), c.says] for c in self.checks]
        head = ["check", "outcome", "value", "limit", ""]
        return tabulate(rows, headers=head, tablefmt=style, disable_numparse=True)


def summary(audit: Audit) -> str:
    """What came out, in one sentence."""
    at = int(np.argmin(abs(audit.radii - audit.eps)))
    low, high = audit.worst.interval[at]
    return (
        f"{audit.name}: clean accuracy {100 * audit.clean_accuracy:.1f} %, worst case at "
        f"{audit.norm} {audit.radii[at]:.4g} {100 * audit.worst.robust_accuracy[at]:.1f} % "
        f"[{100 * low:.1f}, {100 * high:.1f}], n = {audit.n}, budget {audit.budget}."
    )


def _plain(record: Any) -> dict[str, Any]:
    return {
        field.name: value.tolist() if isinstance(value, np.ndarray) else _listed(value)
        for field in dataclasses.fields(record)
        for value in [getattr(record, field.name)]
    }


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
