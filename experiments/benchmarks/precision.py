"""What gradients in bfloat16 cost an attack: robust accuracy with them and with float32.

Examples are crafted on a bfloat16 copy of the network and scored in float32; every radius from
scratch. Signs of small gradients flip, so that the attack can be weaker, never report what is not
there.

    python -m experiments.benchmarks.precision --data-dir DIR     # LeNet-5 and ResNet-20, minutes
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import subjects
from jaxdefense import attacks, bfloat16, linf, losses, sweep
from jaxdefense.attacks import Attack
from jaxdefense.cli import launch
from jaxdefense.reporting import Table, ensure_folder, versions, write_atomically
from jaxdefense.reporting.records import jsonable


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings."""

    networks: tuple[str, ...] = ("standard", "adversarial", "resnet20")
    """keys of experiments.benchmarks.subjects.SUBJECTS"""
    dataset: str = "mnist"
    """of those networks that are not of another set"""
    data_dir: str | None = None
    size: int | None = None
    """resize its images"""
    n_eval: int = 256
    steps: int = 40
    seed: int = 0
    output: str = "runs/precision"


PRESETS = {
    "small": Config(),
    "smoke": Config(networks=("standard",), dataset="digits", size=16, n_eval=16, steps=4),
}


def main(config: Config) -> None:
    """Attack every network with gradients of both precisions."""
    folder = ensure_folder(config.output)
    lineup = (attacks.pgd(linf, config.steps), attacks.apgd(linf, config.steps))
    rows = [row for name in config.networks for row in _rows(config, name, lineup, folder)]
    device = jax.devices()[0].device_kind
    meta = {"config": config, "versions": versions(), "device": device}
    report = jsonable({"meta": meta, "rows": rows}, "precision")
    write_atomically(folder / "precision.json", json.dumps(report, indent=1))
    table = _table(rows, device)
    write_atomically(folder / "precision.md", table.text("pipe"))
    print(table.text("simple"))


def _rows(config: Config, name: str, lineup: tuple[Attack, ...], folder: Path) -> list[dict]:
    source = (config.dataset, config.data_dir, config.size)
    study, net = subjects.prepare(name, source, folder, config.n_eval, config.seed)
    x, y = study.examples
    radii, rough = subjects.SUBJECTS[name].radii["linf"], bfloat16(net)
    rows = []
    for attack in lineup:
        found, seconds = [], []
        for surrogate in (None, rough):
            run = lambda surrogate=surrogate, attack=attack: sweep(
                attack, net, x, y, radii, study.key, surrogate, method="grid"
            )
            run()  # compiles
            start = time.perf_counter()
            found.append(run().raw_accuracy)
            seconds.append(time.perf_counter() - start)
        rows.append({
            "network": f"{name} ({subjects.SUBJECTS[name].model}, {study.data.title})",
            "attack": attack.name, "n": len(y), "radii": radii,
            "float32": found[0], "bfloat16": found[1], "seconds": seconds,
            "flipped": _flipped(net, rough, x, y),
        })  # fmt: skip
    return rows


def _flipped(net: Any, rough: Any, x: np.ndarray, y: np.ndarray) -> float:
    """Share of the gradient's entries whose sign differs, of those that are not 0."""

    @jax.jit
    def signs(function: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        loss = lambda x: losses.cross_entropy(function(x).astype(jnp.float32), y).sum()
        return jnp.sign(jax.grad(loss)(x))

    differ = total = 0
    for first in range(0, len(y), 64):
        some = slice(first, first + 64)
        exact = np.asarray(signs(net, x[some], y[some]))
        differ += int(((exact != np.asarray(signs(rough, x[some], y[some]))) & (exact != 0)).sum())
        total += int((exact != 0).sum())
    return differ / max(total, 1)


def _table(rows: list[dict], device: str) -> Table:
    percent = lambda values: " / ".join(f"{100 * value:.1f}" for value in values)
    body = []
    for row in rows:
        above = max(b - a for a, b in zip(row["float32"], row["bfloat16"], strict=True))
        body.append((
            row["network"], row["attack"], str(row["n"]),
            " / ".join(f"{radius:g}" for radius in row["radii"]),
            percent(row["float32"]), percent(row["bfloat16"]), f"{100 * above:+.1f}",
            f"{100 * row['flipped']:.1f}", f"{row['seconds'][0]:.1f} / {row['seconds'][1]:.1f}",
        ))  # fmt: skip
    header = (
        "network", "attack", "n", "radii (l-inf)", "float32", "bfloat16", "points above, at worst",
        "signs flipped, %", "seconds",
    )  # fmt: skip
    caption = (
        "Robust accuracy % at each radius from scratch, crafted with gradients of float32 and of "
        f"bfloat16, scored in float32; seconds without compiling ({device})."
    )
    return Table(caption, header, tuple(body), left=2)


if __name__ == "__main__":
    launch(main, PRESETS, default="small")
