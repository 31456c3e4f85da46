"""What the quickstart writes: results.json, table.md, figures, report.html."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.harness import Study
from jaxdefense import attacks, linf
from jaxdefense.classifiers import Frozen
from jaxdefense.errors import DataError
from jaxdefense.reporting import (
    Record,
    accuracies,
    comparison,
    difference,
    image_grid,
    read_json,
    robustness_curves,
    save,
    training_curves,
    verdict,
    versions,
    write_atomically,
    write_csv,
    write_json,
    write_report,
)
from jaxdefense.typing import Classifier

SHOWN = 6


def write(
    config: Any,
    study: Study,
    records: list[Record],
    histories: dict[str, list[dict[str, float]]],
    deployed: Mapping[str, Classifier],
    purifiers: Mapping[str, Frozen],
    seconds: float,
) -> None:
    """Tables, figures and the report, and on the console the table and where the rest lies."""
    folder = study.folder
    device = jax.devices()[0]
    meta = {
        "command": " ".join(["python -m experiments.quickstart", *sys.argv[1:]]),
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "wall_seconds": round(seconds, 1),
        "versions": versions(),
        "config": dataclasses.asdict(config),
    }
    _keep_longest(folder / "results.json", meta)
    write_json(folder / "results.json", records, meta)
    write_csv(folder / "results.csv", records)
    noise = min(config.sigmas, key=lambda s: abs(s - 0.225))
    side_by_side = comparison(records, {"linf": config.headline_eps, "sigma": noise})
    everything = accuracies(records)
    text = f"{side_by_side.text('pipe')}\n\n{everything.text('pipe')}\n"
    write_atomically(folder / "table.md", text)

    curves = robustness_curves(records, chance=1 / study.data.num_classes)
    figures = [
        (
            "Robust accuracy against the radius (square-root scale).",
            save(curves, folder / "curves")[1],
        )
    ]
    for name, purifier in purifiers.items():
        grid = _grid(config, study, deployed[name], purifier)
        caption = (
            f"Test images, white-box PGD-{config.steps} at eps = {config.headline_eps:g} on {name}"
            ", and what the autoencoder makes of them. True class → predicted class."
        )
        figures.append((caption, save(grid, folder / f"images-{name.lower()}")[0]))
    training = training_curves(histories)
    figures.append(("Training; dashed: validation split.", save(training, folder / "training")[1]))

    report = write_report(
        folder / "report.html",
        f"Quickstart: {study.data.title}, {config.model}",
        _summary(config, records),
        records,
        meta,
        figures,
        [side_by_side, everything],
    )
    print(f"\n{side_by_side.text('simple')}\n\n{everything.text('simple')}\n")
    print(f"results {folder / 'results.json'}\ntables  {folder / 'table.md'}")
    print(f"curves  {folder / 'curves.png'}\nreport  {report}\n{seconds:.0f} s")


def _keep_longest(path: Path, meta: dict[str, Any]) -> None:
    """A run that only draws again must not claim its few seconds for the whole."""
    with contextlib.suppress(DataError, OSError):
        _, before = read_json(path)
        if before.get("config") == json.loads(json.dumps(meta["config"])):
            meta["wall_seconds"] = max(meta["wall_seconds"], before["wall_seconds"])


def _summary(config: Any, records: list[Record]) -> str:
    """What was asked and what came out, from the numbers."""
    attack = f"pgd-{config.steps}"
    at = np.float32(config.headline_eps)

    def percent(defence: str, knowledge: str) -> str:
        found = [
            r for r in records
            if (r.defence, r.attack, r.knowledge) == (defence, attack, knowledge)
            and np.float32(r.eps) == at
        ]  # fmt: skip
        return f"{100 * found[0].value:.1f} %"

    answers = "; ".join(
        f"{name}: {percent(name, 'oblivious')} oblivious, {percent(name, 'white-box')} white-box"
        for name in ("AE", "U-AE")
    )
    return (
        "Does an autoencoder in front of a classifier make it robust? Accuracy under "
        f"{attack.upper()} at eps = {config.headline_eps:g} (l-inf), first from an attacker who "
        f"does not know the autoencoder, then through it: {answers}; undefended "
        f"{percent('none', 'white-box')}."
    )


def _grid(config: Any, study: Study, defence: Classifier, purifier: Frozen):
    x, y = study.examples[0][:SHOWN], study.examples[1][:SHOWN]
    attack = attacks.pgd(linf, config.steps)
    x_adv = np.asarray(attack(study.key, defence, x, y, config.headline_eps))
    names = study.data.class_names
    predict = lambda images: [names[i] for i in np.asarray(defence(images)).argmax(-1)]
    true = [names[i] for i in y]
    title, change = difference(x, x_adv)
    verdicts = lambda images: [verdict(t, p) for t, p in zip(true, predict(images), strict=True)]
    return image_grid(
        {
            "clean": x,
            "attacked": x_adv,
            title: change,
            "clean, reconstructed": np.asarray(purifier(x)),
            "attacked, reconstructed": np.asarray(purifier(x_adv)),
        },
        captions={"clean": verdicts(x), "attacked": verdicts(x_adv)},
    )
