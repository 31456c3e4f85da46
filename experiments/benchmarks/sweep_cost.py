"""What a whole epsilon curve costs: ours against foolbox, torchattacks and ART on the same weights.

PGD-40 in l-inf on networks rebuilt in PyTorch: LeNet-5 on MNIST, plain and adversarially trained;
ResNet-20, ResNet-18 and an autoencoder before ResNet-20 on CIFAR-10. Peers run once for each
radius; ours searches each image for its smallest broken radius. Also: cost against the number of
radii and of images, a single radius, AutoAttack at one radius, and a hand-written jitted loop of
gradients, which is what the framework's own work is measured by. Only images that the network
classifies right are attacked, so that nothing is free.

    install the extra 'benchmarks', and: pip install --no-deps torchattacks==3.5.1
    python -m experiments.benchmarks.sweep_cost --data-dir DIR

Finished networks are kept in the output folder and not measured again by the same code. Exits with
status 1 where ours leaves more robust accuracy than the strongest peer at any radius, by more than
a point. Starts are random: where one run leaves more, means of several decide.
"""

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.benchmarks import cost_tables, subjects
from experiments.benchmarks.ours import Budget, sources
from jaxdefense import linf, sweep
from jaxdefense.attacks import pgd, standard
from jaxdefense.cli import launch
from jaxdefense.errors import JaxdefenseError
from jaxdefense.reporting import ensure_folder, versions
from jaxdefense.reporting.records import jsonable, write_atomically

# Of each network: how many images; the largest radius of the curve, at which few are left; radius
# and images of AutoAttack, or none.
NETWORKS: dict[str, tuple[int, float, tuple[float, int] | None]] = {
    "standard": (256, 0.3, (0.1, 64)),
    "adversarial": (256, 0.4, (0.2, 64)),
    "resnet20": (64, 0.006, (0.001, 16)),
    "purified": (64, 0.012, None),
    "resnet18": (32, 0.03, None),
}
LIBRARIES = ("foolbox", "torchattacks", "ART")
# Where the curve takes us so many seconds, once after compiling, and at fewer numbers of radii.
LONG, FEW = 15.0, (1, 4, 10, 64)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    data_dir: str | None = None
    """where the images lie; JAXDEFENSE_DATA by default"""
    networks: tuple[str, ...] = tuple(NETWORKS)
    counts: tuple[int, ...] = (1, 2, 4, 10, 16, 32, 64)
    """numbers of radii"""
    radii: int = 10
    """how many the peers run"""
    steps: int = 40
    step_size: float = 0.0625
    """as a fraction of eps"""
    repeats: int = 5
    """timings on both sides, of which the fastest counts; fewer where they take over 10 s"""
    doubt: int = 4
    """runs, of which the means count, where in one run ours leaves more than a peer"""
    images: int | None = None
    """attack so many images of each network instead of its own number"""
    seed: int = 0
    output: str = "runs/sweep-cost"


def main(config: Config) -> None:
    """Time the curve of every network, ours and the peers'."""
    try:
        import torchattacks  # noqa: F401

        import experiments.benchmarks.timing  # noqa: F401
    except ImportError as error:
        raise JaxdefenseError(
            f"this benchmark compares with attacks on PyTorch, and a part of that is missing "
            f"({error}): install the extra 'benchmarks', then torchattacks without its "
            "dependencies (pip install --no-deps torchattacks==3.5.1)"
        ) from None
    # What compiling takes is reported, so nothing may come from disk.
    jax.config.update("jax_enable_compilation_cache", False)
    folder, found = ensure_folder(config.output), []
    for name in config.networks:
        kept = folder / f"{name}-{_digest(config, name)}.json"
        if not kept.exists():
            row = _measure(config, name, folder)
            write_atomically(kept, json.dumps(jsonable(row, name)))
        found.append(json.loads(kept.read_text()))
        print(cost_tables.line(found[-1]), flush=True)
    meta = {
        "command": " ".join(["python -m experiments.benchmarks.sweep_cost", *sys.argv[1:]]),
        "config": config, "versions": versions(), "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
    }  # fmt: skip
    report = jsonable({"meta": meta, "networks": found}, "cost")
    write_atomically(folder / "cost.json", json.dumps(report, indent=1))
    write_atomically(folder / "cost.md", cost_tables.text(report, "pipe"))
    cost_tables.figure(found, folder / "cost")
    print(f"\n{cost_tables.text(report, 'simple')}")
    cost_tables.judge(found)


def _digest(config: Config, name: str) -> str:
    settings = dataclasses.replace(config, networks=(), output="", data_dir=None)
    about = [
        settings,
        NETWORKS[name],
        subjects.SUBJECTS[name],
        versions(),
        os.cpu_count(),
        sources(),
    ]
    return hashlib.sha256(repr(about).encode()).hexdigest()[:8]


def _measure(config: Config, name: str, folder: Path) -> dict[str, Any]:
    """Everything about one network."""
    from experiments.benchmarks import peers, timing, twins

    count, top, suite = NETWORKS[name]
    count = config.images or count
    source = ("mnist", config.data_dir, None)
    study, net = subjects.prepare(name, source, folder, 4 * count, config.seed)
    x, y = study.examples
    right = np.asarray(net(x)).argmax(-1) == y
    network = twins.twin(net)
    x, y = (array[right & (twins.predict(network, x) == y)][:count] for array in (x, y))
    gap, threads = twins.check(network, net, x), peers.best_threads(network, x, y)
    budget = Budget(pgd_steps=config.steps, pgd_step_size=config.step_size)
    attack = pgd(linf, config.steps, config.step_size)
    grid = _grid(top, config.radii)

    def theirs(library: str, radii: Sequence[float], rows: int = count) -> dict[str, Any]:
        some = (x[:rows], y[:rows], radii, config.seed, repeats)
        return timing.peer(library, budget, network, *some)

    def ours(radii: Sequence[float], rows: int = count) -> dict[str, Any]:
        return timing.ours(attack, net, x[:rows], y[:rows], radii, config.seed, repeats)

    one, repeats = _grid(top, 1), 1
    mine = {config.radii: ours(grid)}
    long = mine[config.radii]["seconds"] > LONG
    repeats, counts = (1, FEW) if long else (config.repeats, config.counts)
    single = {library: theirs(library, one) for library in LIBRARIES}
    curves = {
        library: theirs(library, grid)
        for library in sorted(LIBRARIES, key=lambda library: single[library]["seconds"])[:2]
    }
    first = min(curves, key=lambda library: curves[library]["seconds"])
    print(f"{name}: { ({k: round(v['seconds'], 2) for k, v in single.items()}) }", flush=True)
    if not long:  # keeps what the first call compiled
        mine[config.radii] |= {"seconds": ours(grid)["seconds"]}
    mine |= {number: ours(_grid(top, number)) for number in counts if number not in mine}
    print(f"{name}: { ({k: round(v['seconds'], 2) for k, v in mine.items()}) }", flush=True)
    accuracy = {
        who: [run["accuracy"]] for who, run in {"ours": mine[config.radii], **curves}.items()
    }
    doubtful = cost_tables.above(accuracy) > 0
    for seed in range(config.seed + 1, config.seed + config.doubt) if doubtful else ():
        accuracy["ours"].append(
            sweep(attack, net, x, y, grid, jax.random.key(seed)).robust_accuracy
        )
        for library in curves:
            run = timing.peer(library, budget, network, x, y, grid, seed, 1)
            accuracy[library].append(run["accuracy"])
    # More images cost the peers in proportion; few of them do not fill a batch.
    rows = [] if long else [len(y) // 8, len(y) // 4, len(y) // 2, len(y)]
    autoattack = None
    if suite is not None:
        eps, few = suite[0], min(count, suite[1])
        autoattack = {
            "eps": eps, "n": few,
            "ours": timing.ours(standard(linf), net, x[:few], y[:few], [eps], config.seed, 1),
            "torchattacks": timing.torchattacks_autoattack(
                network, x[:few], y[:few], eps, config.seed
            ),
        }  # fmt: skip
    return {
        "network": name, "n": len(y), "top": top, "logits_differ_by": gap, "threads": threads,
        "clean": float(right.mean()), "steps": config.steps, "radii": grid, "counts": list(mine),
        "ours": list(mine.values()), "single": single, "fastest": first,
        "foolbox_on_jax": timing.foolbox_on_jax(
            budget, net, network, x, y, one[0], config.seed, repeats
        ),
        "curves": curves,
        "accuracy": accuracy,
        "images": {
            "rows": rows,
            "ours": [ours(grid, number)["seconds"] for number in rows],
            "single": [theirs(first, one, number)["seconds"] for number in rows],
        },
        "overhead": timing.overhead(attack, config.steps, net, network, x, y),
        "autoattack": autoattack,
        "recompiled": timing.another_checkpoint(attack, net, x, y, grid),
        "data": study.data.provenance,
    }  # fmt: skip


def _grid(top: float, count: int) -> tuple[float, ...]:
    """Evenly up to the top; one alone in the middle of what tells attacks apart."""
    return (top / 3,) if count == 1 else tuple(np.linspace(top / count, top, count).tolist())


if __name__ == "__main__":
    launch(main, {"small": Config()}, default="small")
