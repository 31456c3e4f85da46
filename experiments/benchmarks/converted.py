"""Is a network that PyTorch has trained the same network here, and what does an audit say of it?

A classifier and an autoencoder are trained with PyTorch, converted from their state dicts against
what PyTorch itself answers, and audited together. Their author claims what is left of examples made
for the classifier alone.

    python -m experiments.benchmarks.converted --data-dir DIR  # MNIST; needs the extra `benchmarks`

Exits with status 1 where logits differ by more than 1e-4 of the largest.
"""

import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
from torch import nn as tnn

import jaxdefense as jd
from experiments.benchmarks import twins
from jaxdefense import attacks, data, models
from jaxdefense.auditing import Claim
from jaxdefense.cli import launch
from jaxdefense.reporting import ensure_folder, versions, write_atomically
from jaxdefense.reporting.audits import write_audit
from jaxdefense.reporting.records import jsonable

TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings."""

    dataset: str = "mnist"
    data_dir: str | None = None
    """where the images lie; JAXDEFENSE_DATA by default"""
    size: int = 28
    n_train: int = 6000
    epochs: int = 3
    n: int = 256
    """test images that are compared and attacked"""
    eps: float = 0.1
    budget: str = "quick"
    seed: int = 0
    output: str = "runs/converted"


def trained(
    network: tnn.Module, loss: Callable, x: torch.Tensor, y: torch.Tensor, epochs: int
) -> tnn.Module:
    """The network after Adam at 1e-3 in batches of 64."""
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    network.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            loss(network(x[batch]), y[batch]).backward()
            optimizer.step()
    return network.eval()


def answers(network: tnn.Module, x: np.ndarray) -> np.ndarray:
    """What PyTorch returns for images NHWC: logits, or images NHWC."""
    with torch.no_grad():
        found = network(twins.nchw(x)).numpy(force=True)
    return twins.nhwc(found) if found.ndim == 4 else found


def main(config: Config) -> None:
    """Trains with PyTorch, converts, compares and audits."""
    torch.manual_seed(config.seed)
    chosen = data.load(config.dataset, data_dir=config.data_dir, size=config.size, channels=1)
    chosen = chosen.subset(n_train=config.n_train, n_test=config.n, seed=config.seed)
    shape, x, y = chosen.image_shape, data.as_images(chosen.x_test), chosen.y_test
    images = twins.nchw(data.as_images(chosen.x_train))
    labels = twins.targets(chosen.y_train)

    parts: dict[str, jd.Frozen] = {}
    rows: list[dict[str, Any]] = []
    for name, loss, target in (
        ("lenet5", tnn.functional.cross_entropy, labels),
        ("autoencoder", tnn.functional.mse_loss, images),
    ):
        model = models.build(name)
        start = models.initialize(model, jax.random.key(config.seed), shape)
        network = trained(twins.twin(jd.Frozen(model, start)), loss, images, target, config.epochs)
        theirs = answers(network, x)
        state = network.state_dict()
        parts[name] = jd.Frozen(model, models.from_torch(model, state, shape, (x, theirs)))
        gap = np.abs(np.asarray(parts[name](x)) - theirs).max() / np.abs(theirs).max()
        moved = max(
            float(np.abs(one - other).max())
            for one, other in zip(
                jax.tree.leaves(parts[name].variables), jax.tree.leaves(start), strict=True
            )
        )
        rows.append({"network": name, "gap": float(gap), "moved": moved, "n": len(x)})
        print(
            f"{name}: at most {gap:.1e} of the largest output apart, weights moved by {moved:.2g}"
        )

    whole = jd.Purified(parts["autoencoder"], parts["lenet5"])
    key = jax.random.key(config.seed)
    left = jd.craft(attacks.pgd(), parts["lenet5"], x, y, config.eps, key).accuracy(whole)
    claim = Claim(left.accuracy, "linf", config.eps)
    defence = jd.Defence(
        classifier=parts["lenet5"], purifier=parts["autoencoder"], name="trained with PyTorch",
        train=(chosen.x_train, chosen.y_train),
    )  # fmt: skip
    found = jd.audit(
        defence, x, y, [config.eps / 2, config.eps], key, budget=config.budget, claims=[claim],
        about=chosen.provenance, progress=None,
    )  # fmt: skip
    folder = ensure_folder(config.output)
    write_audit(folder, found)
    verdict = found.verdicts[0]
    print(f"claim {claim}: {verdict.outcome}, decided by {verdict.decided_by}. {verdict.says}")
    report = {
        "rows": rows, "claim": str(claim), "verdict": verdict.outcome,
        "decided_by": verdict.decided_by, "left": verdict.robust_accuracy,
        "interval": verdict.interval, "seconds": found.meta["seconds"],
        "config": dataclasses.asdict(config),
        "versions": {**versions(), "torch": torch.__version__},
    }  # fmt: skip
    text = json.dumps(jsonable(report, "converted"), indent=1)
    write_atomically(folder / "converted.json", text + "\n")
    if not max(row["gap"] for row in rows) <= TOLERANCE:
        sys.exit(1)


if __name__ == "__main__":
    launch(main, {"mnist": Config()}, default="mnist")
