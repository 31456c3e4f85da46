"""The peers' attacks: which library has which, with the same budgets as ours, and their results.

A `Peer` is data: the name of a class of its library and its settings. What it found is kept on
disk, because peers are slow and their results do not change.
"""

import contextlib
import dataclasses
import hashlib
import importlib
import importlib.metadata
import random
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from torch import nn

from experiments.benchmarks import twins
from experiments.benchmarks.ours import MINIMAL, Budget

PACKAGES = {
    "foolbox": "foolbox",
    "torchattacks": "torchattacks",
    "ART": "adversarial-robustness-toolbox",
}
_ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}
_THREADS = torch.get_num_threads()  # all there are, before any is taken away


@dataclasses.dataclass(frozen=True)
class Peer:
    """One attack of one library.

    Attributes:
        library: a key of `PACKAGES`.
        attack: the row of the tables it belongs to.
        norm: name of the ball.
        name: of the class in its library.
        settings: arguments of that class.
        relative: arguments that are so many times eps.
    """

    library: str
    attack: str
    norm: str
    name: str
    settings: dict[str, Any]
    relative: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def minimal(self) -> bool:
        """Whether it minimises the norm and so runs once for all radii."""
        return self.attack in MINIMAL


def batch() -> int:
    """Images per call, as in our sweeps on the same device."""
    return 128 if jax.default_backend() == "cpu" else 2048


def line_up(budget: Budget) -> list[Peer]:
    """Every attack of the three libraries that has a counterpart here."""
    return [*_foolbox_attacks(budget), *_torchattacks_attacks(budget), *_art_attacks(budget)]


def _foolbox_attacks(b: Budget) -> Iterator[Peer]:
    pgd = {"rel_stepsize": b.pgd_step_size, "steps": b.pgd_steps, "random_start": True}
    deepfool = {"steps": b.deepfool_steps, "candidates": 10}
    for norm, prefix in (("linf", "Linf"), ("l2", "L2"), ("l1", "L1")):
        yield Peer("foolbox", "FGSM", norm, f"{prefix}FastGradientAttack", {})
        yield Peer("foolbox", "PGD", norm, f"{prefix}PGD", pgd)
        if norm != "l1":
            yield Peer("foolbox", "DeepFool", norm, f"{prefix}DeepFoolAttack", deepfool)
        fmn = f"{'LInf' if norm == 'linf' else prefix}FMNAttack"
        yield Peer("foolbox", "FMN", norm, fmn, {"steps": b.fmn_steps})
    cw = {
        "binary_search_steps": b.cw_searches, "steps": b.cw_steps, "stepsize": b.cw_step_size,
        "initial_const": b.cw_c, "abort_early": False,
    }  # fmt: skip
    yield Peer("foolbox", "CW", "l2", "L2CarliniWagnerAttack", cw)
    yield Peer("foolbox", "DDN", "l2", "DDNAttack", {"steps": b.ddn_steps})


def _torchattacks_attacks(b: Budget) -> Iterator[Peer]:
    make = lambda row, ball, name, **settings: Peer(
        "torchattacks", row, ball, name, settings, {"eps": 1.0}
    )
    pgd = {"steps": b.pgd_steps, "random_start": True}
    step = {"eps": 1.0, "alpha": b.pgd_step_size}
    yield make("FGSM", "linf", "FGSM")
    yield Peer("torchattacks", "PGD", "linf", "PGD", pgd, step)
    yield Peer("torchattacks", "PGD", "l2", "PGDL2", pgd, step)
    for norm, name in (("linf", "Linf"), ("l2", "L2")):
        for loss in ("ce", "dlr"):
            settings = {"norm": name, "steps": b.apgd_steps, "loss": loss}
            yield make(f"APGD-{loss.upper()}", norm, "APGD", **settings)
        # Rescaled to the number of queries, as in ours here; ART knows nothing else.
        settings = {"norm": name, "n_queries": b.queries, "resc_schedule": True}
        yield make("Square", norm, "Square", **settings)
    for norm, name in (("linf", "Linf"), ("l2", "L2"), ("l1", "L1")):
        fab = {"norm": name, "steps": b.fab_steps, "n_classes": b.fab_targets + 1}
        fab |= {"multi_targeted": True, "eps": 1e10}
        yield Peer("torchattacks", "FAB", norm, "FAB", fab)
    # It has no search for c, so it gets all the steps for one that is large enough everywhere.
    cw = {"c": 10 * b.cw_c, "steps": b.cw_searches * b.cw_steps, "lr": b.cw_step_size}
    yield Peer("torchattacks", "CW", "l2", "CW", cw)
    yield Peer("torchattacks", "DeepFool", "l2", "DeepFool", {"steps": b.deepfool_steps})


def _art_attacks(b: Budget) -> Iterator[Peer]:
    make = lambda row, ball, name, relative, **settings: Peer(
        "ART", row, ball, name, {"batch_size": batch(), **settings}, relative
    )
    pgd = {"max_iter": b.pgd_steps, "num_random_init": 1, "verbose": False}
    for norm, order in _ORDERS.items():
        yield make("FGSM", norm, "FastGradientMethod", {"eps": 1.0}, norm=order)
        step = {"eps": 1.0, "eps_step": b.pgd_step_size}
        yield make("PGD", norm, "ProjectedGradientDescent", step, norm=order, **pgd)
        # The first step of the paper; the library's own is 0.1 whatever eps is.
        step = {"eps": 1.0, "eps_step": 1.0 if norm == "l1" else 2.0}
        apgd = {"norm": order, "max_iter": b.apgd_steps, "nb_random_init": 1, "verbose": False}
        for row, loss in (("CE", "cross_entropy"), ("DLR", "difference_logits_ratio")):
            settings = {**apgd, "loss_type": loss}
            yield make(f"APGD-{row}", norm, "AutoProjectedGradientDescent", step, **settings)
        if norm != "l1":
            square = {"norm": order, "max_iter": b.queries, "verbose": False}
            yield make("Square", norm, "SquareAttack", {"eps": 1.0}, **square)
    deepfool = {"max_iter": b.deepfool_steps, "nb_grads": 10, "verbose": False}
    yield make("DeepFool", "l2", "DeepFool", {}, **deepfool)
    cw = {
        "binary_search_steps": b.cw_searches, "max_iter": b.cw_steps,
        "learning_rate": b.cw_step_size, "initial_const": b.cw_c, "verbose": False,
    }  # fmt: skip
    if b.art_cw:
        yield make("CW", "l2", "CarliniL2Method", {}, **cw)


# ----------------------------------------------------------------------------------- running


@dataclasses.dataclass(frozen=True)
class Found:
    """What a peer returned and spent, over all radii together.

    Attributes:
        x_adv: ``[e, n, h, w, c]``, or ``[1, n, h, w, c]`` of a minimum-norm attack.
        seconds, gradients, forwards: in all.
    """

    x_adv: np.ndarray
    seconds: float
    gradients: int
    forwards: int


def run(
    peer: Peer, network: nn.Module, x: np.ndarray, y: np.ndarray, radii: Sequence[float], seed: int
) -> Found:
    """Runs a peer at each radius, or once if it minimises the norm."""
    images, labels = twins.nchw(x), twins.targets(y)
    counted, found, rows = twins.Counted(network).eval(), [], batch()
    importlib.import_module(_MODULES[peer.library])  # takes seconds, which nobody should be billed
    start = time.perf_counter()
    for eps in [None] if peer.minimal else radii:
        settings = dict(peer.settings)
        if eps is not None:
            settings |= {name: float(times * eps) for name, times in peer.relative.items()}
        if peer.name in ("APGD", "Square", "FAB"):  # they seed themselves, with 0 if not told
            settings["seed"] = seed
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  (what the library draws from)
        torch.manual_seed(seed)
        call = _CALLS[peer.library]
        parts = [
            call(peer.name, settings, counted, images[i : i + rows], labels[i : i + rows], eps)
            for i in range(0, len(x), rows)
        ]
        found.append(np.concatenate([twins.nhwc(part) for part in parts]))
    seconds = time.perf_counter() - start
    return Found(np.stack(found), seconds, counted.gradients, counted.forwards)


def _foolbox(name, settings, network, x, y, eps):
    import foolbox

    attack = getattr(foolbox.attacks, name)(**settings)
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device=twins.place())
    return attack(model, x, y, epsilons=eps)[1].detach()


def _torchattacks(name, settings, network, x, y, eps):
    import torchattacks

    attack = getattr(torchattacks, name)(network, **settings)
    if name != "FAB":
        return attack(x, y).detach()
    # Its own loop over targets lets an image go at the first target that fools within eps, so
    # that without an eps the others are never tried; and it has none in l1. Here all are.
    order = {"Linf": np.inf, "L2": 2, "L1": 1}[settings["norm"]]
    size = lambda z: (z - x).flatten(1).norm(order, 1)
    best = x.clone()
    for target in range(2, settings["n_classes"] + 1):
        attack.target_class = target
        found = attack.attack_single_run_targeted(x, y, use_rand_start=False).detach()
        closer = (size(found) > 0) & ((size(found) < size(best)) | (size(best) == 0))
        best[closer] = found[closer]
    return best


def _art(name, settings, network, x, y, eps):
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    shape, classes = tuple(x.shape[1:]), network(x[:1]).shape[-1]
    network.forwards -= 1
    kind = "cpu" if twins.place() == "cpu" else "gpu"
    estimator = PyTorchClassifier(
        network, nn.CrossEntropyLoss(), shape, classes, clip_values=(0.0, 1.0), device_type=kind
    )
    given = {"x": x.numpy(force=True), "y": y.numpy(force=True)}
    with np.errstate(all="ignore"):  # its Square divides by zero in l2
        return getattr(evasion, name)(estimator, **settings).generate(**given)


_CALLS: dict[str, Callable[..., Any]] = {
    "foolbox": _foolbox,
    "torchattacks": _torchattacks,
    "ART": _art,
}
_MODULES = {
    "foolbox": "foolbox",
    "torchattacks": "torchattacks",
    "ART": "art.attacks.evasion",
}


def best_threads(network: nn.Module, x: np.ndarray, y: np.ndarray) -> int:
    """Sets and returns the number of threads that serves PGD best, 1 or all.

    Small layers on shared cores can be several times slower on all threads than on one.
    """
    probe = next(p for p in line_up(Budget(pgd_steps=5)) if p.attack == "PGD")

    def trial(threads: int) -> float:
        torch.set_num_threads(threads)
        few = x[: batch()], y[: batch()]
        return min(run(probe, network, *few, [0.1], 0).seconds for _ in range(3))

    threads = min({1, _THREADS}, key=trial)
    torch.set_num_threads(threads)
    return threads


# ------------------------------------------------------------------------------------ on disk


def recall(
    folder: Path, peer: Peer, network: nn.Module, x: np.ndarray, y: np.ndarray,
    radii: Sequence[float], seed: int,
) -> Found:  # fmt: skip
    """`run`, or its result from an earlier run with the same inputs."""
    versions = [importlib.metadata.version(p) for p in (PACKAGES[peer.library], "torch")]
    grid = () if peer.minimal else tuple(radii)
    digest = hashlib.sha256(f"{peer} {versions} {grid} {seed} {batch()}".encode())
    for array in (x, y, *(value.numpy(force=True) for value in network.state_dict().values())):
        digest.update(np.ascontiguousarray(array).tobytes())
    path = folder / f"{peer.library}-{peer.attack}-{peer.norm}-{digest.hexdigest()[:16]}.npz"
    with contextlib.suppress(OSError, KeyError, ValueError, zipfile.BadZipFile), np.load(path) as f:
        return Found(f["x_adv"], float(f["seconds"]), int(f["gradients"]), int(f["forwards"]))
    found = run(peer, network, x, y, radii, seed)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
        np.savez_compressed(file, **dataclasses.asdict(found))
    Path(file.name).replace(path)
    return found
