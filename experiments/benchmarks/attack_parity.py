"""Parity with foolbox, torchattacks and ART: every attack that they have too, side by side.

Three networks (LeNet-5, the same adversarially trained, ResNet-8) are rebuilt in PyTorch from the
same weights and attacked in l-inf, l2 and l1 with the same budgets. One scorer judges everybody's
images. The cost of each attack is counted on both sides: gradients, forward passes, seconds.

    install the extra 'benchmarks', and: pip install --no-deps torchattacks==3.5.1
    python -m experiments.benchmarks.attack_parity --data-dir DIR

Exits with status 1 where ours leaves over a point more robust accuracy than the strongest peer, or
a median norm over 2 % above the best peer's. An attack that draws random numbers and seems weaker
in one run is run eight times on both sides, and judged by the mean and its standard error. What
peers found is kept, so that a second run only repeats ours where our source has changed.
"""

import dataclasses
import functools
import importlib.metadata
import json
import math
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import harness
from experiments.benchmarks import ours, parity_tables, scoring, subjects
from experiments.benchmarks.ours import Budget, Entry
from experiments.benchmarks.subjects import SUBJECTS
from jaxdefense import Frozen
from jaxdefense.cli import launch
from jaxdefense.errors import JaxdefenseError, UnknownNameError
from jaxdefense.geometry import BALLS
from jaxdefense.reporting import ensure_folder, versions
from jaxdefense.reporting.records import jsonable, write_atomically

LIBRARIES = ("foolbox", "torchattacks", "ART")
# The attacks that draw random numbers, here and there.
RANDOM = ("PGD", "APGD-CE", "APGD-DLR", "Square")


BUDGET = Budget()
NETWORKS = ("standard", "adversarial", "resnet")


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    data_dir: str | None = None
    """where the images lie; JAXDEFENSE_DATA by default"""
    dataset: str = "mnist"
    size: int | None = None
    """resize images"""
    networks: tuple[str, ...] = NETWORKS
    """which networks"""
    attacks: tuple[str, ...] = ()
    """rows to measure, for example APGD-CE; all by default"""
    norms: tuple[str, ...] = tuple(BALLS)
    libraries: tuple[str, ...] = LIBRARIES
    """peers; with none, ours is measured alone and PyTorch is not needed"""
    budget: Budget = BUDGET
    n_eval: int = 256
    """attack so many test images"""
    training: harness.Training | None = None
    """of every network; each one's own by default"""
    points: float = 1.0
    """how many points more robust accuracy than the strongest peer ours may leave"""
    percent: float = 2.0
    """by how many percent a median norm may be above the best peer's"""
    repeats: int = 1
    """runs of attacks that draw random numbers, with others each time; averaged on both sides"""
    doubt: int = 8
    """runs of those that are over what is allowed in fewer; chance alone makes a point or two"""
    seed: int = 0
    output: str = "runs/attack-parity"
    preset: str = "small"


PRESETS = {
    "smoke": Config(
        dataset="digits", size=16, n_eval=16, training=harness.Training(5, 32, 5e-3), points=100.0,
        percent=math.inf, output="runs/attack-parity-smoke", preset="smoke",
        budget=Budget(
            pgd_steps=4, apgd_steps=8, dlr=True, queries=20, fab_steps=3, fab_targets=2,
            deepfool_steps=5, cw_searches=2, cw_steps=5, ddn_steps=5, fmn_steps=5,
        ),
    ),
    "small": Config(),
    "full": Config(
        preset="full",
        budget=Budget(
            dlr=True, queries=1000, fab_steps=50, fab_targets=9, deepfool_steps=50,
            cw_searches=9, cw_steps=100, ddn_steps=100, fmn_steps=100,
        ),
    ),
}  # fmt: skip


def main(config: Config) -> None:
    """Train three networks, attack each with our attacks and with those of the peers."""
    _check(config)
    # The first call is reported as one that compiles, so nothing may come from disk.
    jax.config.update("jax_enable_compilation_cache", False)
    folder, rows, meta = ensure_folder(config.output), [], _meta(config)
    for name in config.networks:
        source = (config.dataset, config.data_dir, config.size)
        study, net = subjects.prepare(
            name, source, folder, config.n_eval, config.seed, config.training
        )
        assert isinstance(net, Frozen)
        x, y = study.examples
        wrong = np.asarray(net(x)).argmax(-1) != y
        network = None
        if config.libraries:
            network, meta["threads"] = _twin(net, x, y)
        meta["networks"][name] = {
            **dataclasses.asdict(SUBJECTS[name]), "clean_accuracy": 1 - wrong.mean(),
            "data": study.data.provenance, "n": len(y),
        }  # fmt: skip
        for (attack, norm), mine in ours.line_up(config.budget).items():
            if norm not in config.norms or (config.attacks and attack not in config.attacks):
                continue
            radii = SUBJECTS[name].radii[norm]
            theirs = functools.partial(
                _peers, config, folder, attack, norm, net, network, x, y, wrong, radii
            )
            own = functools.partial(ours.recall, folder / "found", mine, net, x, y, radii)
            runs = [_run(own, theirs, seed) for seed in _seeds(config, attack, 0)]
            row = _row(config, name, attack, norm, radii, runs)
            if row["verdict"] is not None and row["verdict"].weaker:
                runs += [_run(own, theirs, seed) for seed in _seeds(config, attack, len(runs))]
                row = _row(config, name, attack, norm, radii, runs)
            rows.append(row)
            print(parity_tables.line(rows[-1]), flush=True)
            _write(folder, rows, meta)
    print("\n" + parity_tables.text(rows, meta, "simple"))
    print(f"results {folder / 'parity.json'}\ntable   {folder / 'parity.md'}")
    _conclude(rows, _allowed(config))


def _seeds(config: Config, attack: str, done: int) -> range:
    """Seeds of the first runs of an attack, or of those that settle a doubt."""
    if attack not in RANDOM:
        return range(config.seed, config.seed + (done == 0))
    count = max(config.repeats, config.doubt) if done else config.repeats
    return range(config.seed + done, config.seed + count)


def _run(own: Any, theirs: Any, seed: int) -> dict[str, Entry]:
    """Everybody's run with one seed."""
    return {**theirs(seed), "ours": own(seed)}


def _twin(net: Frozen, x: np.ndarray, y: np.ndarray) -> tuple[Any, int]:
    from experiments.benchmarks import peers, twins

    network = twins.twin(net)
    print(f"logits agree to {twins.check(network, net, x):.1e} of the largest", flush=True)
    return network, peers.best_threads(network, x, y)


def _peers(
    config, folder, attack, norm, net, network, x, y, wrong, radii, seed
) -> dict[str, Entry]:
    if not config.libraries:
        return {}
    from experiments.benchmarks import peers, twins

    ball, entries = BALLS[norm], {}
    for peer in peers.line_up(config.budget):
        if (peer.attack, peer.norm) != (attack, norm) or peer.library not in config.libraries:
            continue
        found = peers.recall(folder / "found", peer, network, x, y, radii, seed)
        scores = []
        for eps, x_adv in zip((math.inf,) if peer.minimal else radii, found.x_adv, strict=True):
            # The two networks may decide a near tie differently: either counts, in peers' favour.
            fooled = twins.predict(network, x_adv) != y
            fooled |= np.asarray(net(x_adv)).argmax(-1) != y
            scores.append(scoring.score(ball, x, x_adv, wrong, fooled, eps))
        accuracy = np.array([1 - s.broken.mean() for s in scores])
        if peer.minimal:
            accuracy = scoring.within(ball, scores[0].norms, radii, x[0].size)
        entries[peer.library] = Entry(
            accuracy=tuple(map(float, accuracy)),
            median=float(np.median(scores[0].norms)) if peer.minimal else None,
            violations=sum(s.violations for s in scores),
            gradients=found.gradients / len(y),
            forwards=found.forwards / len(y),
            seconds=found.seconds,
        )
    return entries


def _row(
    config: Config, network: str, attack: str, norm: str, radii: Any, runs: list[dict[str, Entry]]
) -> dict:
    entries = {library: ours.average([run[library] for run in runs]) for library in runs[0]}
    peers, verdict = [library for library in entries if library != "ours"], None
    if peers:
        medians = [m for m in (entries[peer].median for peer in peers) if m is not None]
        accuracies = {library: [run[library].accuracy for run in runs] for library in entries}
        verdict = scoring.judge(
            radii, accuracies["ours"], [accuracies[peer] for peer in peers],
            entries["ours"].median, medians, _allowed(config),
        )  # fmt: skip
    return {
        "network": network, "attack": attack, "norm": norm, "radii": radii, "entries": entries,
        "verdict": verdict,
    }  # fmt: skip


def _allowed(config: Config) -> scoring.Allowed:
    return scoring.Allowed(config.points / 100, config.percent / 100)


def _conclude(rows: list[dict], allowed: scoring.Allowed) -> None:
    judged = [row for row in rows if row["verdict"] is not None]
    weaker = [row for row in judged if row["verdict"].weaker]
    if weaker:
        # Medians are rarely off by as much as accuracies; a point weighs as 2 % do.
        size = lambda v: max(v.points / 0.01, (v.excess or 0) / 0.02)
        weaker.sort(key=lambda row: -size(row["verdict"]))
        worst = "; ".join(map(parity_tables.line, weaker[:5]))
        raise JaxdefenseError(
            f"ours is the weaker attack in {len(weaker)} rows (allowed {allowed}): {worst}"
        )
    print(f"ours is nowhere the weaker attack in {len(judged)} rows (allowed {allowed})")


def _check(config: Config) -> None:
    for kind, chosen, known in (
        ("network", config.networks, NETWORKS),
        ("norm", config.norms, BALLS),
        ("library", config.libraries, LIBRARIES),
        ("attack", config.attacks, {row for row, _ in ours.line_up(config.budget)}),
    ):
        for name in chosen:
            if name not in known:
                raise UnknownNameError(kind, name, known)
    if config.libraries:
        try:
            import art  # noqa: F401
            import foolbox  # noqa: F401
            import torchattacks  # noqa: F401
        except ImportError as error:
            raise JaxdefenseError(
                "this benchmark compares with foolbox, torchattacks and ART on PyTorch, and one of "
                f"them is missing ({error}): install the extra 'benchmarks', then torchattacks "
                "without its dependencies (pip install --no-deps torchattacks==3.5.1)"
            ) from None


def _meta(config: Config) -> dict[str, Any]:
    packages = versions()
    if config.libraries:
        names = ("torch", "foolbox", "torchattacks", "adversarial-robustness-toolbox")
        packages |= {name: importlib.metadata.version(name) for name in names}
    kept = dataclasses.asdict(config)
    for name in ("data_dir", "output"):  # say where, not what
        del kept[name]
    command = f"python -m experiments.benchmarks.attack_parity --preset {config.preset}"
    device = f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores"
    return {
        "command": command, "config": kept, "device": device, "versions": packages,
        "threads": None, "networks": {},
    }  # fmt: skip


def _write(folder: Path, rows: list[dict], meta: dict) -> None:
    verdict = lambda row: (
        row["verdict"] and {**row["verdict"]._asdict(), "text": str(row["verdict"])}
    )
    plain = [{**row, "verdict": verdict(row)} for row in rows]
    report = jsonable({"meta": meta, "rows": plain}, "parity")
    write_atomically(folder / "parity.json", json.dumps(report, indent=1))
    write_atomically(folder / "parity.md", parity_tables.text(rows, meta, "pipe"))


if __name__ == "__main__":
    launch(main, PRESETS, default="small")
