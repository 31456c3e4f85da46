"""The papers' defences, one function each, for ``jaxdefense audit experiments.defences:NAME``.

Networks come from the checkpoints of the paper's script, or are trained as it trains them:

    JAXDEFENSE_DATA=DIR jaxdefense audit experiments.defences:jung2022 --data typeface \\
        --data-dir DIR --size 32 --channels 3 --claim 0.9@linf:0.1

The environment says which run: JAXDEFENSE_PRESET (smoke, small or paper; small by default),
JAXDEFENSE_RUNS (the folder of the runs; ``runs`` by default) and JAXDEFENSE_DATA (its data; a paper
without has a stand-in, which then is also what to audit with).
"""

import dataclasses
import os
import types
from pathlib import Path
from typing import Any

from experiments import (
    ghosh2024_ct_denoising,
    ghosh2024_parts,
    gilbert2020_denoising,
    gilbert2020_functions,
    gilbert2020_parts,
    jung2022_parts,
    jung2022_u_autoencoder,
    kim2020_parts,
    kim2020_revisiting_autoencoders,
    mandal2023_convolutional_autoencoder,
    mandal2023_functions,
    mandal2023_parts,
    studies,
)
from experiments.harness import Study
from jaxdefense import Defence
from jaxdefense.data import Dataset
from jaxdefense.errors import UnknownNameError
from jaxdefense.typing import Classifier, Purifier


def jung2022() -> Defence:
    """P0: the U-autoencoder before ResNet-18, which was trained behind it."""
    config, folder = _run(jung2022_u_autoencoder)
    name = config.datasets[0]
    stand_in = jung2022_u_autoencoder.SETS[name][1]
    study = studies.prepare(config, name, stand_in, 0, folder, size=32, channels=3)
    parts = jung2022_parts.train(dataclasses.replace(config, controls=False), study)
    whole: Any = parts.deployed["U-AE"]
    return _defence("U-AE + " + parts.model, study, whole.classifier, whole.purifier)


def gilbert2020() -> Defence:
    """P1: the denoising autoencoder before the last of the fine-tuned networks, without faults."""
    script = gilbert2020_denoising
    config, folder = _run(script)
    study = studies.prepare(
        config, script.DATA, script.STAND_IN, 0, folder, size=config.size, channels=3
    )
    # As its script loads them: what a network was trained on is part of its checkpoint.
    study = dataclasses.replace(study, data=study.data.subset(n_test=config.n_test, seed=0))
    workshop = gilbert2020_parts.Workshop(config, study)
    line = workshop.line(gilbert2020_functions.RESNET, coded=False)
    tuned = line.deployed(gilbert2020_parts.LAST)
    return _defence("denoising AE + fine-tuned " + line.model, study, tuned, line.purifier)


def kim2020() -> Defence:
    """P4: an autoencoder before a classifier that was trained behind it."""
    config, folder = _run(kim2020_revisiting_autoencoders)
    name = config.datasets[0]
    setting = getattr(config, name)
    sizes = {"n_train": setting.n_train, "n_eval": setting.n_eval}
    study = studies.prepare(
        types.SimpleNamespace(**{**vars(config), **sizes}), name,
        kim2020_revisiting_autoencoders.SETS[name][1], 0, folder, size=setting.size,
        channels=setting.channels,
    )  # fmt: skip
    workshop = kim2020_parts.Workshop(setting, study)
    return _defence("AE-C, " + setting.model, study, workshop.behind, workshop.purifier)


def mandal2023() -> Defence:
    """P2: the autoencoder with noise on its code that was trained against PGD."""
    config, folder = _run(mandal2023_convolutional_autoencoder)
    name = config.datasets[0]
    stand_in = mandal2023_convolutional_autoencoder.SETS[name][1]
    study = studies.prepare(config, name, stand_in, 0, folder, size=config.size, channels=1)
    workshop = mandal2023_parts.Workshop(config, study)
    autoencoder, _ = workshop.autoencoder(mandal2023_parts.PGD_AE)
    purifier = mandal2023_functions.deployed(autoencoder)
    return _defence("conv AE + VGG", study, workshop.net, purifier)


def ghosh2024() -> Defence:
    """P3: the autoencoder that has also met attacks, before a classifier that has met neither."""
    script = ghosh2024_ct_denoising
    config, folder = _run(script)
    study = studies.prepare(
        config, script.DATA, script.STAND_IN, 0, folder, size=config.size, channels=1
    )
    workshop = ghosh2024_parts.Workshop(config, study)
    purifier = workshop.autoencoders()[0][ghosh2024_parts.RETRAINED]
    return _defence("retrained AE + CNN", study, workshop.net, purifier)


def _run(script: Any) -> tuple[Any, Path]:
    preset = os.environ.get("JAXDEFENSE_PRESET", "small")
    if preset not in script.PRESETS:
        raise UnknownNameError("preset", preset, script.PRESETS)
    name = script.__name__.rpartition(".")[2]
    # The scripts find prepared sets, such as the typeface digits, in the folder they are given.
    config = dataclasses.replace(script.PRESETS[preset], data_dir=os.environ.get("JAXDEFENSE_DATA"))
    return config, Path(os.environ.get("JAXDEFENSE_RUNS", "runs")) / (f"{name}-{preset}")


def _defence(name: str, study: Study, classifier: Classifier, purifier: Purifier) -> Defence:
    data: Dataset = study.data
    train = (data.x_train, data.y_train)
    return Defence(classifier=classifier, purifier=purifier, train=train, name=name)
