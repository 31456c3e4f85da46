"""What `mandal2023_convolutional_autoencoder` measures beyond the paper's tables, of one seed.

The defences it compares with, its noise, its activation, attacks named in passing, time.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments import measuring
from experiments.cells import WHITE_BOX, curve, minimum, shown, timed
from experiments.harness import digest
from experiments.mandal2023_cells import DROPOUT
from experiments.mandal2023_functions import (
    Nearness,
    at_sigma,
    code_spread,
    deployed,
    dropping,
    fixed_noise,
    renamed,
    silent_share,
    within,
    without_noise,
)
from experiments.mandal2023_lineup import FEW, Lineup, averaged
from experiments.mandal2023_parts import AUTOENCODERS, FGSM_AE, PUVAE, RADII, Parts
from jaxdefense import Purified, attacks, bpda, defenses, eot, linf
from jaxdefense.attacks import Attack
from jaxdefense.classifiers import is_random
from jaxdefense.reporting import Record
from jaxdefense.typing import Classifier, Purifier

MEAN, FIXED = "mean of 20 answers", "one noise for all"
SPREAD, SILENT = "spread of the code", "silent units"
ALONE = "no classifier"


def beyond(team: Lineup, config: Any, parts: Parts, first: bool) -> Iterator[Record]:
    """All of it.

    Args:
        team: the attackers.
        config: of the script.
        parts: what was trained.
        first: whether this is the first seed.
    """
    yield from _noise(team, config, parts)
    yield from _inside(parts)
    for name in parts.baselines:
        yield from _baseline(team, config, parts, name)
    if parts.variants:
        yield from _variants(team, config, parts)
        yield from _named(team, config, parts)
    if first:
        yield from _seconds(config, parts)


def _noise(team: Lineup, config: Any, parts: Parts) -> Iterator[Record]:
    """The autoencoder for FGSM with another noise at test time than in training."""
    trained, at = parts.autoencoders[FGSM_AE], (0.0, RADII[FGSM_AE])
    purifiers: dict[str, Purifier] = {f"sigma {s:g}": at_sigma(trained, s) for s in config.sigmas}
    purifiers[FIXED] = fixed_noise(trained, parts.study.key)
    functions = {f"{FGSM_AE}, {name}": Purified(p, parts.net) for name, p in purifiers.items()}
    mean = {f"{FGSM_AE}, {MEAN}": eot(parts.behind(FGSM_AE), 20, of="logits")}
    given = (parts.study, parts.model, team.fgsm, parts.net)
    yield from shown(*given, functions, at, alone=config.draws)
    yield from shown(*given, mean, at, alone=1)


def _inside(parts: Parts) -> Iterator[Record]:
    """How large the code is beside its noise, and which units are never in use."""
    study = parts.study
    x = jnp.asarray(study.examples[0])
    trained = {**parts.autoencoders, **{f"{FGSM_AE}, {n}": a for n, a in parts.variants.items()}}
    for name, autoencoder in trained.items():
        if not hasattr(autoencoder.module, "code"):
            continue
        for metric, read in ((SPREAD, code_spread), (SILENT, silent_share)):
            yield measuring.cell(
                study, model=ALONE, defence=name, attack="none", knowledge="none", norm="linf",
                eps=0.0, metric=metric, value=read(autoencoder, x), low=np.nan, high=np.nan,
                n=len(x), gradients=0, forwards=len(x),
            )  # fmt: skip


def _baseline(team: Lineup, config: Any, parts: Parts, name: str) -> Iterator[Record]:
    """Defense-GAN or PuVAE: under the paper's examples, then by an attacker who knows it."""
    given, purifier, model, net = config.baselines, parts.baselines[name], parts.model, parts.net
    some = dataclasses.replace(parts.study, n_eval=given.n_eval)
    few = dataclasses.replace(parts.study, n_eval=given.n_adaptive)
    whole, drops = Purified(purifier, net), dropping(net)
    data = parts.study.data
    less = data.subset(n_test=min(given.n_clean, len(data.x_test)), seed=parts.study.seed)
    yield measuring.clean(dataclasses.replace(parts.study, data=less), model, name, whole)
    yield from shown(some, model, team.fgsm, net, {name: whole}, FEW, alone=1)
    coded = {name: Purified(purifier, drops)}
    at = (RADII[FGSM_AE],)
    yield from curve(few, model, name, team.grey, whole, FEW)
    yield from shown(some, model + DROPOUT, team.coded_fgsm, drops, coded, at, alone=1)
    pgd = attacks.pgd(linf, given.attack_steps)
    if name == PUVAE:
        # Its choice of a class is a minimum over branches that can be differentiated.
        mean = eot(whole, given.draws)
        for each in (attacks.fgsm(linf), pgd):
            yield from curve(few, model, name, averaged(each, given.draws), whole, FEW, mean)
        quiet, made = Purified(without_noise(purifier), net), purifier.function
        choice = Nearness(made.module, made.variables)
        by_choice = [renamed(each, f"{each.name}-choice") for each in (team.free, *team.suite)]
        aimed: list[tuple[Attack, Any]] = [(each, quiet) for each in team.noiseless]
        aimed += [(each, choice) for each in by_choice]
    else:
        generator = parts.generator
        assert generator is not None
        about = given.latent_steps, digest(generator.variables)
        nearest = defenses.invert(
            generator, generator.module.latent, restarts=given.restarts, steps=given.steps
        )
        straight = Purified(bpda(purifier, defenses.identity()), net)
        aimed = [(renamed(pgd, f"{pgd.name}-bpda"), straight)]
        aimed += [(within(generator, *about), net), (within(generator, *about, nearest), net)]
        # The whole search differentiated, step by step.
        unrolled = renamed(pgd, f"{pgd.name}-unrolled")
        yield from curve(few, model, name, unrolled, whole, FEW)
    for each, source in aimed:
        yield from curve(few, model, name, each, whole, FEW, source, knowledge=WHITE_BOX)


def _variants(team: Lineup, config: Any, parts: Parts) -> Iterator[Record]:
    """Autoencoders that were trained otherwise."""
    few = dataclasses.replace(parts.study, n_eval=config.n_adaptive)
    for name in parts.variants:
        whole, defence = parts.behind(name), f"{FGSM_AE}, {name}"
        yield measuring.clean(parts.study, parts.model, defence, whole)
        given = (parts.study, parts.model, team.fgsm, parts.net, {defence: whole}, FEW)
        yield from shown(*given, alone=config.draws)
        random = is_random(whole)
        each, source = (team.pgd_mean, eot(whole, config.draws)) if random else (team.free, None)
        yield from curve(few, parts.model, defence, each, whole, FEW, source)


def _named(team: Lineup, config: Any, parts: Parts) -> Iterator[Record]:
    """Attacks that the paper names in passing."""
    few = dataclasses.replace(parts.study, n_eval=config.n_adaptive)
    plain: dict[str, Classifier] = {"none": parts.net}
    for each in team.named:
        yield from curve(few, parts.model, "none", each, parts.net, FEW)
        for name in AUTOENCODERS.values():
            whole, told = parts.behind(name), averaged(each, config.draws)
            yield from curve(few, parts.model, name, told, whole, FEW, eot(whole, config.draws))
    for name in AUTOENCODERS.values():
        plain[f"{name}, sigma 0"] = Purified(parts.autoencoders[name], parts.net)
    for name, function in plain.items():
        for each in team.minimum:
            yield from minimum(few, parts.model, name, each, function, (0.5, 1.0, 2.0, 4.0))


def _seconds(config: Any, parts: Parts) -> Iterator[Record]:
    """Time for an answer, with and without the classifier."""
    study = parts.study
    purifiers: dict[str, Purifier] = {FGSM_AE: deployed(parts.autoencoders[FGSM_AE])}
    purifiers |= parts.baselines
    functions: dict[tuple[str, str], Any] = {(parts.model, "none"): parts.net}
    functions |= {(ALONE, name): purifier for name, purifier in purifiers.items()}
    functions |= {(parts.model, n): Purified(p, parts.net) for n, p in purifiers.items()}
    for size in config.timed:
        for (model, defence), function in functions.items():
            repeats = config.repeats if defence in ("none", FGSM_AE) else config.slow_repeats
            yield timed(study, function, size, repeats, model=model, defence=defence)
