"""Does any attack succeed within a certified radius? Then attack, scoring or proof are wrong.

Three networks with proofs: a smoothed one (Cohen et al. 2019, l2), and interval bounds (Gowal et
al. 2018, l-inf) of one that was trained against PGD, which are far too careful, and of a single
layer, which are nearly exact. Every image is attacked just within its certified radius, where
nothing may succeed, and at multiples of it, which shows that the attack can.

    python -m experiments.benchmarks.soundness --data-dir DIR     # MNIST, 800 images, minutes

Exits with status 1 where an attack succeeds within a certified radius, where it breaks nothing at
the largest multiple either (of a single layer: less than half of the images at twice the radius),
or where too few images are certified to tell.
"""

import dataclasses
import json
import sys
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from tabulate import tabulate

import jaxdefense as jd
from experiments.benchmarks import planted_ground
from experiments.benchmarks.planted_cases import unclipped_noise
from experiments.benchmarks.planted_ground import Ground
from jaxdefense import attacks, defenses, models
from jaxdefense.attacks import Attack
from jaxdefense.cli import launch
from jaxdefense.evaluation import certified_within, certify
from jaxdefense.geometry import l2, linf
from jaxdefense.reporting import ensure_folder, versions, write_atomically
from jaxdefense.reporting.records import jsonable
from jaxdefense.training import adversarial, supervised, with_augmentation
from jaxdefense.typing import Classifier

# A float32 image at a radius may lie an ulp beyond it.
WITHIN = 0.999


@dataclasses.dataclass(frozen=True)
class Config(planted_ground.Config):
    """Settings of the benchmark; those of the networks as in `planted`."""

    dataset: str = "mnist"
    size: int = 28
    n_train: int = 6000
    epochs: int = 4
    n: int = 800
    """images that are certified and, where they can be, attacked"""
    least: int = 500
    """certified images, or the benchmark fails"""
    sigma: float = 0.25
    draws: int = 2000
    """behind each certificate of the smoothed classifier"""
    answers: int = 500
    """draws behind its answer to an attacked image"""
    samples: int = 8
    """of the noise, in each gradient of an attack on it"""
    steps: int = 20
    multiples: tuple[float, ...] = (2.0, 16.0, 512.0)
    """of the certified radius"""
    seeds: tuple[int, ...] = (0,)
    output: str = "runs/soundness"


class Proof(NamedTuple):
    """A network with a certified radius for each image, and what is to be tried against it.

    Attributes:
        name: in tables.
        norm: of the radii.
        radius: ``[n]``, at most 0 where nothing is certified.
        attacks: to be made for `source`.
        source: the differentiable function that attacks see.
        answer: images to the answer that counts, -1 where there is none.
        tight: whether most images must break at twice the radius: a bound that were twice too
            large would be found out.
    """

    name: str
    norm: str
    radius: np.ndarray
    attacks: tuple[Attack, ...]
    source: Classifier
    answer: Any
    tight: bool = False


def smoothed(ground: Ground, config: Config) -> Proof:
    """A network trained with noise, smoothed."""
    module = models.build("lenet5")
    objective = with_augmentation(supervised(module), unclipped_noise(config.sigma))
    given = (ground.x_train, ground.y_train, config.epochs, ground.key)
    net = planted_ground.train(objective, module, *given)
    vote = defenses.smoothed(net, config.sigma)
    found = certify(vote, ground.x, ground.y, ground.key, draws=config.draws)
    again = jax.random.fold_in(ground.key, 1)
    answer = lambda x: certify(vote, x, ground.y, again, draws=config.answers).answer
    source = jd.eot(vote.noisy, config.samples, of="probabilities")
    lineup = (attacks.pgd(l2, config.steps), attacks.apgd(l2, config.steps))
    name = f"smoothed, sigma {config.sigma:g}, {config.draws} draws"
    return Proof(name, "l2", found.radius, lineup, source, answer)


def bounded(ground: Ground, config: Config) -> Proof:
    """A network trained against PGD, and interval bounds: the largest of a grid of radii."""
    module = models.build("lenet5")
    deploy = jax.tree_util.Partial(jd.Frozen, module)
    attack = attacks.pgd(linf, 7, step_size=0.25)
    objective = adversarial(supervised(module), attack, config.eps, deploy)
    given = (ground.x_train, ground.y_train, config.epochs, ground.key)
    net = planted_ground.train(objective, module, *given, ground.net.variables)
    return _by_intervals("interval bounds, trained against PGD", net, ground, config)


class Layer(nn.Module):
    """Logits are sums of pixels, of which intervals are exact."""

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(10)(x.reshape(len(x), -1))


def layer(ground: Ground, config: Config) -> Proof:
    """A single layer: its bounds lose only that they take each logit by itself."""
    given = (ground.x_train, ground.y_train, config.epochs, ground.key)
    net = planted_ground.train(supervised(Layer()), Layer(), *given)
    return _by_intervals("interval bounds, a single layer", net, ground, config, tight=True)


def _by_intervals(
    name: str, net: jd.Frozen, ground: Ground, config: Config, tight: bool = False
) -> Proof:
    radius = np.full(len(ground.y), -1.0)
    for eps in np.geomspace(1e-4, 0.1, 31):
        radius[certified_within(net, ground.x, ground.y, float(eps))] = eps
    answer = lambda x: np.asarray(jax.jit(lambda x: net(x))(x)).argmax(-1)
    lineup = (attacks.pgd(linf, config.steps), attacks.quick(linf))
    return Proof(name, "linf", radius, lineup, net, answer, tight)


def rows_of(proof: Proof, ground: Ground, config: Config) -> list[dict[str, Any]]:
    """How many of the certified images each attack breaks, within the radius and beyond."""
    certain = proof.radius > 0
    widest = {"linf": 1.0, "l2": ground.x[0].size ** 0.5}[proof.norm]  # from black to white
    rows = []
    for attack in proof.attacks:
        for factor in (WITHIN, *config.multiples):
            # An image without a certificate is attacked at no radius, and does not count.
            eps = np.where(certain, np.minimum(factor * proof.radius, widest), 0.0)
            made = jd.craft(attack, proof.source, ground.x, ground.y, eps, ground.key)
            answer = proof.answer(made.x_adv)
            broken = certain & (answer != ground.y) & (answer >= 0)
            rows.append({
                "proof": proof.name, "norm": proof.norm, "n": len(ground.y),
                "certified": int(certain.sum()),
                "median radius": float(np.median(proof.radius[certain])) if certain.any() else 0.0,
                "attack": attack.name, "radius times": factor, "broken": int(broken.sum()),
                "at least": int(certain.sum()) // 2 if proof.tight and factor == 2 else 0,
            })  # fmt: skip
            told = "{proof}: {attack} at {radius times:g} x breaks {broken} of {certified}"
            print(told.format_map(rows[-1]), flush=True)
    return rows


def main(config: Config) -> None:
    """Attacks certified images and counts those that break."""
    folder, rows = ensure_folder(config.output), []
    for seed in config.seeds:
        ground = planted_ground.prepare(config, seed)
        for make in (smoothed, bounded, layer):
            found = rows_of(make(ground, config), ground, config)
            rows += [{**row, "seed": seed} for row in found]
    wrong = sum(row["broken"] for row in rows if row["radius times"] < 1)
    text = (
        tabulate(rows, headers="keys", tablefmt="pipe", floatfmt=".4g")
        + f"\n\n{wrong} broken within a certified radius"
    )
    most = max(config.multiples)
    idle = [row for row in rows if row["radius times"] == most and not row["broken"]]
    few = [row for row in rows if row["certified"] < config.least]
    loose = [row for row in rows if row["broken"] < row["at least"]]
    text += f", {len(idle)} attacks without effect, {len(few)} rows of too few images"
    text += f", {len(loose)} of bounds that are not tight"
    print(text)
    report = {"rows": rows, "config": dataclasses.asdict(config), "versions": versions()}
    write_atomically(
        folder / "soundness.json", json.dumps(jsonable(report, "soundness"), indent=1) + "\n"
    )
    write_atomically(folder / "soundness.md", text + "\n")
    if wrong or idle or few or loose:
        sys.exit(1)


if __name__ == "__main__":
    launch(main, {"small": Config()}, default="small")
