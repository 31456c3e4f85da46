"""What a whole epsilon curve costs: ours against foolbox, torchattacks and ART on the same weights.

PGD-40 in l-inf on networks rebuilt in PyTorch. Every peer runs once for each radius; ours searches
each image for its smallest broken radius. Also: cost against the number of radii, a single radius,
and a hand-written jitted loop of gradients, which is what the framework's own work is measured by.

    install the extra 'benchmarks', and: pip install --no-deps torchattacks==3.5.1
    python -m experiments.benchmarks.sweep_cost --data-dir DIR

Exits with status 1 where ours leaves more robust accuracy than a peer at any radius, by more than a
point.
"""

import dataclasses
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import subjects
from experiments.benchmarks.ours import Budget
from jaxdefense import Frozen, linf, sweep
from jaxdefense.attacks import pgd
from jaxdefense.classifiers import join, split
from jaxdefense.cli import launch
from jaxdefense.convolutions import canonicalize
from jaxdefense.errors import JaxdefenseError
from jaxdefense.losses import cross_entropy
from jaxdefense.reporting import Table, ensure_folder, versions
from jaxdefense.reporting.costs import costs
from jaxdefense.reporting.figures import save
from jaxdefense.reporting.records import jsonable, write_atomically

PEERS = ("foolbox", "torchattacks", "ART")
TOP = {"standard": 0.3, "adversarial": 0.4, "resnet": 0.06}
BATCH = 32


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    data_dir: str | None = None
    """where MNIST lies; JAXDEFENSE_DATA by default"""
    networks: tuple[str, ...] = tuple(TOP)
    counts: tuple[int, ...] = (1, 2, 4, 10, 16, 32, 64)
    """numbers of radii; 10 is the one that peers run"""
    radii: int = 10
    n_eval: int = 256
    steps: int = 40
    step_size: float = 0.0625
    """as a fraction of eps"""
    repeats: int = 2
    """timings of ours, after the one that compiles; the fastest counts on both sides"""
    seed: int = 0
    output: str = "runs/sweep-cost"


def main(config: Config) -> None:
    """Time the curve of every network, ours and the peers'."""
    try:
        from experiments.benchmarks import peers, twins
    except ImportError as error:
        raise JaxdefenseError(
            f"this benchmark compares with attacks on PyTorch, and a part of that is missing "
            f"({error}): install the extra 'benchmarks'"
        ) from None
    # The first call is reported as one that compiles, so nothing may come from disk.
    jax.config.update("jax_enable_compilation_cache", False)
    folder, found = ensure_folder(config.output), []
    for name in config.networks:
        source = ("mnist", config.data_dir, None)
        study, net = subjects.prepare(name, source, folder, config.n_eval, config.seed)
        x, y = study.examples
        network = twins.twin(net)
        gap, threads = twins.check(network, net, x), peers.best_threads(network, x, y)
        grid = _grid(name, config.radii)
        theirs = {library: _peer(library, config, network, net, x, y, grid) for library in PEERS}
        ours = {count: _ours(config, net, x, y, _grid(name, count)) for count in config.counts}
        row = {
            "network": name, "n": len(y), "logits_differ_by": gap, "threads": threads,
            "radii": grid, "ours": ours, "peers": theirs, "data": study.data.provenance,
            "overhead": _overhead(config, net, x, y),
        }  # fmt: skip
        found.append(row)
        print(_line(config, row), flush=True)
    meta = {
        "command": " ".join(["python -m experiments.benchmarks.sweep_cost", *sys.argv[1:]]),
        "config": config, "versions": versions(), "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
    }  # fmt: skip
    report = {"meta": meta, "networks": found}
    write_atomically(folder / "cost.json", json.dumps(jsonable(report, "cost"), indent=1))
    write_atomically(folder / "cost.md", _text(config, meta, found, "pipe"))
    label = f"seconds, PGD-{config.steps}"
    save(costs(config.counts, _panels(config, found), "radii of the curve", label), folder / "cost")
    print(f"\n{_text(config, meta, found, 'simple')}")
    _judge(config, found)


def _grid(name: str, count: int) -> tuple[float, ...]:
    """Evenly up to the top; one alone in the middle of what tells attacks apart."""
    top = TOP[name]
    return (top / 3,) if count == 1 else tuple(np.linspace(top / count, top, count).tolist())


def _ours(config: Config, net: Frozen, x: Any, y: Any, grid: Sequence[float]) -> dict[str, Any]:
    attack = pgd(linf, config.steps, config.step_size)
    run = functools.partial(sweep, attack, net, x, y, grid, jax.random.key(config.seed))
    curve, first = _timed(run)
    return {
        "first": first,
        "seconds": min(_timed(run)[1] for _ in range(config.repeats)),
        "gradients": curve.evaluations.gradients / len(y),
        "forwards": curve.evaluations.forwards / len(y),
        "accuracy": curve.robust_accuracy,
    }


def _peer(library, config: Config, network, net, x, y, grid) -> dict[str, Any]:
    from experiments.benchmarks import peers, twins

    budget = Budget(pgd_steps=config.steps, pgd_step_size=config.step_size)
    (peer,) = [
        p for p in peers.line_up(budget)
        if (p.library, p.attack, p.norm) == (library, "PGD", "linf")
    ]  # fmt: skip
    single = min(
        peers.run(peer, network, x, y, grid[:1], config.seed).seconds for _ in range(config.repeats)
    )
    found = peers.run(peer, network, x, y, grid, config.seed)
    wrong = twins.predict(network, x) != y
    fooled = [
        (twins.predict(network, a) != y) | (np.asarray(net(a)).argmax(-1) != y) for a in found.x_adv
    ]
    # Nested, as ours: broken at one radius is broken at all larger ones.
    broken = np.logical_or.accumulate(np.stack(fooled) | wrong)
    return {
        "seconds": found.seconds,
        "single": single,
        "gradients": found.gradients / len(y),
        "accuracy": 1 - broken.mean(1),
    }


def _overhead(config: Config, net: Frozen, x: Any, y: Any) -> dict[str, float]:
    """Seconds of full runs that break nothing, and of the same gradients in a loop by hand."""
    right = np.asarray(net(x)).argmax(-1) == y
    x, y = x[right], y[right]
    count = len(y) - len(y) % BATCH
    x, y, eps = x[:count], y[:count], 1e-6
    attack = pgd(linf, config.steps, config.step_size)
    run = lambda: sweep(attack, net, x, y, [eps], jax.random.key(0), batch_size=BATCH)
    arrays, static = split(net)

    @jax.jit
    def by_hand(arrays: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        loss = lambda point: cross_entropy(join(arrays, static)(point), y).sum()
        gradient = canonicalize(jax.value_and_grad(loss))

        def step(_, point):
            moved = point + config.step_size * eps * jnp.sign(gradient(point)[1])
            return jnp.clip(jnp.clip(moved, x - eps, x + eps), 0.0, 1.0)

        return jax.lax.fori_loop(0, config.steps, step, x)

    def loop() -> None:
        for i in range(0, count, BATCH):
            by_hand(arrays, x[i : i + BATCH], y[i : i + BATCH]).block_until_ready()

    for function in (run, loop):
        function()
    ours, plain = (min(_timed(f)[1] for _ in range(3)) for f in (run, loop))
    return {"sweep": ours, "by_hand": plain, "rows": count}


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = run()
    return result, time.perf_counter() - start


def _line(config: Config, row: dict[str, Any]) -> str:
    ours, fastest = row["ours"][config.radii], min(p["seconds"] for p in row["peers"].values())
    return (
        f"{row['network']}: {config.radii} radii {ours['seconds']:.2f} s, fastest peer "
        f"{fastest:.2f} s ({fastest / ours['seconds']:.1f} times); "
        f"{ours['gradients'] / config.steps:.2f} full runs' gradients"
    )


def _text(config: Config, meta: dict[str, Any], found: list[dict[str, Any]], fmt: str) -> str:
    caption = (
        f"Seconds for a PGD-{config.steps} curve of {config.radii} radii in l-inf on the same "
        f"weights, {meta['cores']} cores; n images each, the clean pass included. Ours: second "
        "call; the first, which compiles, in brackets."
    )
    body = []
    for row in found:
        ours, peers = row["ours"][config.radii], row["peers"]
        fastest = min(p["seconds"] for p in peers.values())
        body.append(
            (row["network"], str(row["n"]), f"{ours['seconds']:.2f} ({ours['first']:.1f})",
             *(f"{peers[p]['seconds']:.2f}" for p in PEERS),
             f"{fastest / ours['seconds']:.1f}", f"{ours['gradients']:.1f}",
             f"{peers['foolbox']['gradients']:.0f}",
             f"{100 * (ours['accuracy'] - _lowest(row)).max():+.1f}")
        )  # fmt: skip
    header: tuple[str, ...] = ("network", "n", "ours", *PEERS, "times faster than the fastest",
              "gradients an image, ours", "theirs", "points above the strongest")  # fmt: skip
    curve = Table(caption, header, tuple(body), 1)
    caption = (
        "One radius (seconds; fastest peer), many radii (gradients an image; seconds; times faster "
        "than the fastest peer's single radius times their number), and a sweep in which nothing "
        "breaks over the same gradients in a jitted loop by hand."
    )
    body = []
    for row in found:
        single = min(p["single"] for p in row["peers"].values())
        many = [row["ours"][c] for c in config.counts]
        body.append(
            (row["network"], f"{row['ours'][min(config.counts)]['seconds']:.2f} / {single:.2f}",
             *(f"{m['gradients']:.0f}; {m['seconds']:.2f}; {c * single / m['seconds']:.1f}"
               for c, m in zip(config.counts, many, strict=True)),
             f"{row['overhead']['sweep'] / row['overhead']['by_hand']:.2f}")
        )  # fmt: skip
    header = ("network", "one radius, ours / theirs", *(f"{c} radii" for c in config.counts),
              "over by hand")  # fmt: skip
    table = Table(caption, header, tuple(body), 1)
    where = ", ".join([meta["device"], *map(" ".join, meta["versions"].items())])
    return f"{curve.text(fmt)}\n\n{table.text(fmt)}\n\n{meta['command']}\n\n{where}\n"


def _lowest(row: dict[str, Any]) -> np.ndarray:
    return np.min([p["accuracy"] for p in row["peers"].values()], axis=0)


def _panels(config: Config, found: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Seconds against the number of radii, ours and the fastest peer's."""
    panels = {}
    for row in found:
        single = min(p["single"] for p in row["peers"].values())
        panels[f"{row['network']}, n = {row['n']}"] = {
            "fastest peer": [single * count for count in config.counts],
            "ours": [row["ours"][count]["seconds"] for count in config.counts],
        }
    return panels


def _judge(config: Config, found: list[dict[str, Any]]) -> None:
    for row in found:
        worst = float((row["ours"][config.radii]["accuracy"] - _lowest(row)).max())
        if worst > 0.01 + 1e-9:
            raise JaxdefenseError(
                f"{row['network']}: ours leaves {100 * worst:.1f} points more than the strongest "
                "peer at one radius"
            )


if __name__ == "__main__":
    launch(main, {"small": Config()}, default="small")
