"""Our AutoAttack against its authors' own results, and against itself in other batches.

Two small networks with what AutoAttack's own code (seed 0) finds on 200 images come with the
tests. Prints robust accuracy after each attack alone and after all of `standard`, theirs and ours,
in l-inf, l2 and l1; then whether the same rows break when the batch is split, permuted, padded or
laid over 8 (simulated) devices.

    python -m experiments.benchmarks.autoattack_reference
    python -m experiments.benchmarks.autoattack_reference --networks trained:resnet --data-dir DIR

The second form takes networks of `experiments.benchmarks.subjects`, trained here, of which nobody
else has values. Exits with status 1 where ours leaves over a point more than theirs, where all of
`standard` together leave more than one of its attacks alone, or where rows differ by more than
numerical ties.
"""

import dataclasses
import functools
import json
import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from experiments.benchmarks import subjects
from jaxdefense import attacks, sweep
from jaxdefense.attacks import Attack
from jaxdefense.classifiers import apply
from jaxdefense.cli import launch
from jaxdefense.errors import JaxdefenseError
from jaxdefense.geometry import BALLS
from jaxdefense.losses import margin
from jaxdefense.reporting import Table, ensure_folder, versions
from jaxdefense.reporting.records import jsonable, write_atomically
from jaxdefense.typing import Classifier, example_keys

REFERENCE = ("standard", "adversarial")
TRAINED = "trained:"
PARTS = ("apgd-ce", "apgd-t", "fab-t", "square")
MARGIN = 0.01


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    reference: str = "tests/assets"
    """folder of reference.json and reference.npz"""
    networks: tuple[str, ...] = REFERENCE
    """of the reference file, or keys of subjects.SUBJECTS after "trained:"; those need data"""
    norms: tuple[str, ...] = ("linf", "l2", "l1")
    dataset: str = "mnist"
    """of trained networks that are not of another set"""
    data_dir: str | None = None
    n_eval: int = 64
    """attack so many images of each trained network"""
    seed: int = 0
    devices: int = 8
    """simulated devices, on a CPU"""
    output: str = "runs/autoattack_reference"


def main(config: Config) -> None:
    """Run every part alone and all together; compare; run again in other batches."""
    if jax.config.jax_platforms in (None, "cpu"):  # type: ignore[attr-defined]
        jax.config.update("jax_num_cpu_devices", config.devices)
    folder = ensure_folder(config.output)
    rows: list[dict[str, Any]] = []
    same: list[dict[str, Any]] = []
    start = time.perf_counter()
    for name in config.networks:
        (net, x, y), data, values = _subject(config, name, folder)
        for norm in config.norms:
            ball, tables = BALLS[norm], values[norm]
            radii = [float(eps) for eps in tables]
            suite = attacks.standard(ball)
            for part in (*PARTS, "all"):
                curve = sweep(
                    suite if part == "all" else only(suite, part),
                    net, x, y, radii, jax.random.key(config.seed), method="grid",
                )  # fmt: skip
                pairs, spent = len(y) * len(radii), curve.evaluations
                for radius, accuracy in zip(tables, curve.raw_accuracy, strict=True):
                    row: dict[str, Any] = {"network": name, "norm": norm, "eps": radius}
                    row |= {"attack": part, "theirs": tables[radius][part], "ours": float(accuracy)}
                    row |= {"n": len(y), "data": data}
                    row |= {
                        "gradients": spent.gradients / pairs,
                        "forwards": spent.forwards / pairs,
                    }
                    rows.append(row)
                print(f"{name} {norm} {part}: {curve.raw_accuracy}", flush=True)
            eps = radii[len(radii) // 2]
            same.append({"network": name, "norm": norm, "eps": eps} | other_batches(
                suite, net, x, y, eps, config))  # fmt: skip
            print(same[-1], flush=True)
    meta: dict[str, Any] = {
        "versions": versions(),
        "device": jax.devices()[0].device_kind,
        "n": len(y),
    }
    meta |= {"seconds": time.perf_counter() - start, "config": dataclasses.asdict(config)}
    report = {"meta": meta, "robust_accuracy": rows, "other_batches": same}
    write_atomically(folder / "reference.json", json.dumps(jsonable(report, "reference"), indent=1))
    text = _text(rows, same, "pipe")
    write_atomically(folder / "reference.md", text)
    print(_text(rows, same, "simple"))
    _judge(rows, same)


def _subject(config: Config, name: str, folder: Path) -> tuple[Any, str, dict[str, Any]]:
    """Network, images and labels; where these are from; by norm and radius what others find."""
    if not name.startswith(TRAINED):
        net, x, y, theirs = load(Path(config.reference), name)
        by_norm = {
            norm: {k.split()[2]: v for k, v in theirs.items() if _is_for(k, norm)}
            for norm in config.norms
        }
        return (net, x, y), "8 x 8 digits of the reference file", by_norm
    key = name.removeprefix(TRAINED)
    source = (config.dataset, config.data_dir, None)
    study, net = subjects.prepare(key, source, folder, config.n_eval, config.seed)
    nobody = dict.fromkeys((*PARTS, "all"), math.nan)
    radii = subjects.SUBJECTS[key].radii
    return (
        (net, *study.examples),
        study.data.provenance,
        {norm: {str(eps): nobody for eps in radii[norm]} for norm in config.norms},
    )


def load(folder: Path, name: str) -> tuple[Classifier, np.ndarray, np.ndarray, dict[str, Any]]:
    """A network of the reference file, its images, labels and AutoAttack's results."""
    z = np.load(folder / "reference.npz")
    weights = {k.split(".", 1)[1]: jnp.asarray(z[k]) for k in z.files if k.startswith(f"{name}.")}
    values = json.loads((folder / "reference.json").read_text())[name]
    return jax.tree_util.Partial(_network, weights), z["x"], z["y"].astype(np.int32), values


def _network(w: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    for layer, stride in (("0", 1), ("2", 2)):
        x = jax.lax.conv_general_dilated(
            x, w[f"{layer}.weight"].transpose(2, 3, 1, 0), (stride, stride), [(1, 1)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        x = jax.nn.relu(x + w[f"{layer}.bias"])
    x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)  # their order of features
    x = jax.nn.relu(x @ w["5.weight"].T + w["5.bias"])
    return x @ w["7.weight"].T + w["7.bias"]


def _is_for(key: str, norm: str) -> bool:
    return key.startswith("autoattack") and key.split()[1].lower() == norm


def only(suite: Attack, part: str) -> Attack:
    """One attack of a suite, all its restarts and targets."""
    stages = tuple(
        stage for stage, label in zip(suite.stages, suite.labels, strict=True) if label == part
    )
    return Attack(part, stages, suite.ball)


def other_batches(
    attack: Attack, net: Classifier, x: np.ndarray, y: np.ndarray, eps: float, config: Config
) -> dict[str, Any]:
    """How many rows break otherwise when the batch is laid out otherwise, and how many are ties."""
    keys = example_keys(jax.random.key(config.seed), len(x))
    run = jax.jit(functools.partial(_margins, attack, net))
    count = len(x)
    whole = np.asarray(run(keys, x, y, jnp.full(count, eps)))
    order = np.random.default_rng(0).permutation(count)
    half = count // 2
    padded = np.concatenate([np.arange(count), np.zeros(56, int)])
    answers = {
        "split": np.concatenate(
            [np.asarray(run(keys[part], x[part], y[part], jnp.full(half, eps)))
             for part in (slice(half), slice(half, 2 * half))]
        ),
        "padded": np.asarray(run(keys[padded], x[padded], y[padded], jnp.full(count + 56, eps))),
    }  # fmt: skip
    answers["padded"] = answers["padded"][:count]
    permuted = np.empty_like(whole)
    permuted[order] = np.asarray(run(keys[order], x[order], y[order], jnp.full(count, eps)))
    answers["permuted"] = permuted
    devices = jax.device_count()
    if devices > 1 and count % devices == 0:
        mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
        rows = PartitionSpec("data")
        spread = jax.jit(
            jax.shard_map(functools.partial(_margins, attack, net), mesh=mesh, in_specs=rows,
                          out_specs=rows, check_vma=False)
        )  # fmt: skip
        answers[f"{devices} devices"] = np.asarray(spread(keys, x, y, jnp.full(count, eps)))
    differ = {name: (answer > 0) != (whole > 0) for name, answer in answers.items()}
    # A row whose margin is near nothing either way is decided by the order of sums.
    near = {
        name: int((differ[name] & (np.minimum(np.abs(answers[name]), np.abs(whole)) < 1e-3)).sum())
        for name in answers
    }
    return {
        "broken": int((whole > 0).sum()),
        "differ": {name: int(d.sum()) for name, d in differ.items()},
        "of these ties": near,
    }


def _margins(attack: Attack, net: Classifier, keys, x, y, eps):
    return margin(apply(net, keys, attack(keys, net, x, y, eps)), y)


def _text(rows: list[dict[str, Any]], same: list[dict[str, Any]], fmt: str) -> str:
    cells: dict[tuple[str, str, str], dict[str, tuple[float, float]]] = {}
    for row in rows:
        at = (row["network"], row["norm"], row["eps"])
        cells.setdefault(at, {})[row["attack"]] = (row["theirs"], row["ours"])
    parts = (*PARTS, "all")
    caption = (
        "Robust accuracy %, each attack of `standard` alone and all together: AutoAttack's own "
        "code / ours, or ours alone on networks trained here, of which nobody else has values."
    )
    lines = tuple((*at, *(_both(*found[p]) for p in parts)) for at, found in cells.items())
    table = Table(caption, ("network", "norm", "eps", *parts), lines, 3)
    layouts = sorted({name for row in same for name in row["differ"]})
    caption = "Rows broken in one batch, and rows that break otherwise in other batches."
    lines = tuple(
        (r["network"], r["norm"], f"{r['eps']:g}", str(r["broken"]),
         *(f"{r['differ'].get(n, '-')}" for n in layouts)) for r in same
    )  # fmt: skip
    other = Table(caption, ("network", "norm", "eps", "broken", *layouts), lines, 3)
    about = dict.fromkeys(f"- {r['network']}: n = {r['n']}; {r['data']}" for r in rows)
    return "\n\n".join([table.text(fmt), other.text(fmt), "\n".join(about)]) + "\n"


def _both(theirs: float, ours: float) -> str:
    return " / ".join(f"{100 * value:.1f}" for value in (theirs, ours) if not math.isnan(value))


def _judge(rows: list[dict[str, Any]], same: list[dict[str, Any]]) -> None:
    told = "nobody has values to compare with"
    compared = [row for row in rows if not math.isnan(row["theirs"])]
    if compared:
        worst = max(compared, key=lambda row: row["ours"] - row["theirs"])
        gap = worst["ours"] - worst["theirs"]
        where = " ".join(str(worst[k]) for k in ("network", "norm", "eps", "attack"))
        told = f"ours leaves {100 * gap:+.1f} points against theirs at worst ({where})"
        if gap > MARGIN + 1e-9:
            raise JaxdefenseError(f"ours is weaker by {100 * gap:.1f} points: {where}")
    at = lambda row: (row["network"], row["norm"], row["eps"])
    together = {at(row): row["ours"] for row in rows if row["attack"] == "all"}
    for row in rows:
        if together[at(row)] > row["ours"]:
            raise JaxdefenseError(f"all attacks together leave more than one of them: {row}")
    for row in same:
        for name, count in row["differ"].items():
            if count > row["of these ties"][name]:
                raise JaxdefenseError(f"rows break otherwise when {name}: {row}")
    print(told)


if __name__ == "__main__":
    launch(main, {"small": Config()}, default="small")
