"""What runs cost: seconds, gradients and compilations, ours and the peers', on the same weights."""

import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from experiments.benchmarks import peers, twins
from experiments.benchmarks.ours import Budget
from jaxdefense import sweep
from jaxdefense.attacks import Attack
from jaxdefense.classifiers import join, split
from jaxdefense.convolutions import canonicalize
from jaxdefense.evaluation import threads
from jaxdefense.losses import cross_entropy
from jaxdefense.programs import compilations

# Rows of the loops by hand, as in our sweeps on a CPU and on others.
BATCH, LARGE = 32, 2048
# Runs are repeated until so many seconds have gone; what takes longer than the second runs once.
PATIENCE, LONG = 10.0, 60.0


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What `run` returns, and its seconds."""
    start = time.perf_counter()
    result = run()
    return result, time.perf_counter() - start


def fastest(run: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """What `run` returns, and the fewest seconds of up to so many repeats, at least two."""
    result, best = timed(run)
    spent, done = best, 1
    while done < repeats and best < LONG and (done < 2 or spent < PATIENCE):
        seconds = timed(run)[1]
        best, spent, done = min(best, seconds), spent + seconds, done + 1
    return result, best


# ------------------------------------------------------------------------------------------ ours


def ours(attack: Attack, net: Any, x: Any, y: Any, radii: Sequence[float], seed: int, repeats: int):
    """A sweep of ours: what the first call compiles apart from what the fastest later one takes."""
    run = functools.partial(sweep, attack, net, x, y, radii, jax.random.key(seed))
    with compilations() as compiled:
        first = timed(run)[1]
    curve, seconds = fastest(run, repeats)
    return {
        "first": first,
        "seconds": seconds,
        "programs": compiled.programs,
        "compiling": compiled.seconds,
        "gradients": curve.evaluations.gradients / len(y),
        "forwards": curve.evaluations.forwards / len(y),
        "accuracy": curve.robust_accuracy,
    }


def another_checkpoint(attack: Attack, net: Any, x: Any, y: Any, radii: Sequence[float]) -> int:
    """How many programs other weights of the same architecture have compiled anew; to be none."""
    changed = jax.tree.map(lambda leaf: np.asarray(leaf) * np.float32(1.01), net)
    with compilations() as compiled:
        sweep(attack, changed, x, y, radii, jax.random.key(0))
    return compiled.programs


def overhead(attack: Attack, steps: int, net: Any, network: Any, x: Any, y: Any) -> dict[str, Any]:
    """Full runs that break nothing, a jitted loop by hand for the same two accuracies, and PyTorch.

    The loop takes as many gradients and predicts the images before and after.

    Args:
        attack: of so many steps.
        steps: gradients of one run.
        net: ours.
        network: its twin.
        x, y: examples that the network classifies right.
    """
    batch = BATCH if jax.default_backend() == "cpu" else LARGE
    count = max(len(y) - len(y) % batch, min(len(y), batch))
    x, y, eps = x[:count], y[:count], 1e-6
    size = min(batch, count)
    run = lambda: sweep(attack, net, x, y, [eps], jax.random.key(0), batch_size=size)
    arrays, static = split(net)
    on_cpu = jax.default_backend() == "cpu"

    @jax.jit
    def by_hand(arrays: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        predicted = lambda point: join(arrays, static)(point).argmax(-1) == y
        loss = lambda point: cross_entropy(join(arrays, static)(point), y).sum()
        gradient = jax.value_and_grad(loss)
        if on_cpu:
            predicted, gradient = canonicalize(predicted), canonicalize(gradient)

        def step(_, point):
            moved = point + 0.1 * eps * jnp.sign(gradient(point)[1])
            return jnp.clip(jnp.clip(moved, x - eps, x + eps), 0.0, 1.0)

        return predicted(x).mean(), predicted(jax.lax.fori_loop(0, steps, step, x)).mean()

    def part(i: int) -> None:
        jax.block_until_ready(by_hand(arrays, x[i : i + size], y[i : i + size]))

    def loop() -> None:  # by as many threads as the sweep has
        with ThreadPoolExecutor(threads.count(count)) as pool:
            list(pool.map(part, range(0, count, size)))

    def pytorch() -> None:
        for i in range(0, count, size):
            point, labels = twins.nchw(x[i : i + size]), twins.targets(y[i : i + size])
            for _ in range(steps):
                point = point.detach().requires_grad_()
                loss = torch.nn.functional.cross_entropy(network(point), labels, reduction="sum")
                (slope,) = torch.autograd.grad(loss, point)
                point = point + 0.1 * eps * slope.sign()
            point.numpy(force=True)  # waits for the device

    for function in (run, loop, pytorch):
        function()
    once = [timed(f)[1] for f in (run, loop, pytorch)]
    rounds = 2 if sum(once) > LONG else 2 + int(min(5, PATIENCE // sum(once)))
    in_turn = [once, *([timed(f)[1] for f in (run, loop, pytorch)] for _ in range(rounds))]
    sweeping, plain, theirs = np.min(in_turn, axis=0)
    return {
        "sweep": sweeping, "by_hand": plain, "pytorch": theirs, "rows": count, "steps": steps,
        "flops": _flops(net, x[:size], y[:size]),
    }  # fmt: skip


def _flops(net: Any, x: Any, y: Any) -> float:
    """Floating-point operations of one image's gradient, as the compiler counts them."""
    loss = lambda point: cross_entropy(net(point), y).sum()
    analysis = jax.jit(jax.grad(loss)).lower(x).compile().cost_analysis() or {}
    return float(analysis.get("flops", np.nan)) / len(y)


# ---------------------------------------------------------------------------------------- theirs


def peer(
    library: str, budget: Budget, network: Any, x: Any, y: Any, radii: Sequence[float], seed: int,
    repeats: int,
) -> dict[str, Any]:  # fmt: skip
    """PGD in l-inf of another library, once for each radius."""
    (one,) = [
        p for p in peers.line_up(budget)
        if (p.library, p.attack, p.norm) == (library, "PGD", "linf")
    ]  # fmt: skip
    run = functools.partial(peers.run, one, network, x, y, radii, seed)
    found, seconds = fastest(run, repeats)
    return {
        "seconds": seconds,
        "gradients": found.gradients / len(y),
        "accuracy": _curve(network, found.x_adv, y),
    }


def foolbox_on_jax(
    budget: Budget, net: Any, network: Any, x: Any, y: Any, eps: float, seed: int, repeats: int
) -> dict[str, Any]:
    """Foolbox's PGD on our own network, through its JAX backend."""
    import foolbox

    attack = foolbox.attacks.LinfPGD(
        rel_stepsize=budget.pgd_step_size, steps=budget.pgd_steps, random_start=True
    )
    model, rows = foolbox.JAXModel(jax.jit(lambda x: net(x)), bounds=(0, 1)), peers.batch()

    def run() -> np.ndarray:
        np.random.seed(seed)  # noqa: NPY002  (what the library draws from)
        parts = [
            attack(model, jnp.asarray(x[i : i + rows]), jnp.asarray(y[i : i + rows]),
                   epsilons=eps)[1]
            for i in range(0, len(x), rows)
        ]  # fmt: skip
        return np.concatenate([np.asarray(part) for part in parts])

    run()  # compiles
    x_adv, seconds = fastest(run, repeats)
    return {
        "seconds": seconds,
        "gradients": float(budget.pgd_steps),
        "accuracy": _curve(network, x_adv[None], y),
    }


def torchattacks_autoattack(network: Any, x: Any, y: Any, eps: float, seed: int) -> dict[str, Any]:
    """AutoAttack `standard` in l-inf of torchattacks' parts, with AutoAttack's own budgets.

    Its class of that name runs 10 steps where AutoAttack has 100.
    """
    import torchattacks

    counted = twins.Counted(network).eval()
    classes = network(twins.nchw(x[:1])).shape[-1]
    about = {"norm": "Linf", "eps": eps, "seed": seed}
    attack = torchattacks.MultiAttack([
        torchattacks.APGD(counted, steps=100, n_restarts=1, loss="ce", **about),
        torchattacks.APGDT(counted, steps=100, n_restarts=1, n_classes=classes, **about),
        torchattacks.FAB(counted, steps=100, multi_targeted=True, n_classes=classes, **about),
        torchattacks.Square(counted, n_queries=5000, n_restarts=1, **about),
    ])  # fmt: skip
    images, labels = twins.nchw(x), twins.targets(y)
    x_adv, seconds = timed(lambda: attack(images, labels).detach())
    return {
        "seconds": seconds,
        "gradients": counted.gradients / len(y),
        "forwards": counted.forwards / len(y),
        "accuracy": _curve(network, twins.nhwc(x_adv)[None], y),
    }


def _curve(network: Any, x_adv: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Robust accuracy; nested, as ours: broken at one radius is broken at all larger ones."""
    fooled = np.stack([twins.predict(network, images) != y for images in x_adv])
    return 1 - np.logical_or.accumulate(fooled).mean(1)
