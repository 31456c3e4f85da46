"""Small classifiers, strict numerics, and a cache on disk so that each program is compiled once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdefense.cli import use_compilation_cache
from jaxdefense.programs import make_room

ASSETS = Path(__file__).parent / "assets"


def _use_the_quick_code_generator() -> None:
    """Has XLA leave out its fusion emitters, which take half of the time to compile for a CPU."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false".strip()
    if "PYTEST_XDIST_WORKER" in os.environ or "fusion_emitters" in os.environ.get("XLA_FLAGS", ""):
        return
    # A flag that a jaxlib does not know aborts the process that meets it.
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    tried = subprocess.run(command, env={**os.environ, "XLA_FLAGS": flags}, capture_output=True)
    if tried.returncode == 0:
        os.environ["XLA_FLAGS"] = flags


# Compiling dominates the tests' time; what they assert does not depend on how well it is done.
_use_the_quick_code_generator()
jax.config.update("jax_disable_most_optimizations", True)
# So does keeping what was compiled: the second run on a machine takes a third of the first.
use_compilation_cache()
# An eps of shape [b] meeting images [b, h, w, c] must raise, not broadcast over channels.
jax.config.update("jax_numpy_rank_promotion", "raise")


_LAST = [""]


@pytest.fixture(autouse=True)
def room_for_programs(request):
    """Frees compiled programs between groups before there are too many."""
    mark = request.node.get_closest_marker("xdist_group")
    group = mark.args[0] if mark else request.node.path.name
    if group != _LAST[0]:
        make_room()
    _LAST[0] = group


@pytest.fixture
def lasting_programs(monkeypatch):
    """For tests that count programs: no cache filled by other tests drops one midway."""
    jax.clear_caches()
    monkeypatch.setattr("jaxdefense.programs._SHARE", 2.0)


@pytest.fixture(scope="session")
def linear():
    return Linear


class Linear:
    """A linear classifier on small images: everything about it has a closed form."""

    SHAPE = (4, 4, 3)

    @staticmethod
    def weights(seed=0, classes=3):
        size = int(np.prod(Linear.SHAPE))
        return jax.random.normal(jax.random.key(seed), (size, classes))

    @staticmethod
    def classifier(weights):
        return jax.tree_util.Partial(_linear, weights)

    @staticmethod
    def data(seed=0, count=6, low=0.0, high=1.0, classes=3):
        x = jax.random.uniform(jax.random.key(100 + seed), (count, *Linear.SHAPE))
        x = low + (high - low) * x
        y = Linear.classifier(Linear.weights(seed, classes))(x).argmax(-1)
        return x, y.astype(jnp.int32)


def _linear(weights, x):
    return (x.reshape(x.shape[0], -1) - 0.5) @ weights


def conv_net(seed=0, classes=4, channels=8):
    """A small convolutional network as plain function and parameters (a pytree callable)."""
    k = jax.random.split(jax.random.key(seed), 3)
    parameters = {
        "a": 0.4 * jax.random.normal(k[0], (3, 3, 3, channels)),
        "b": 0.3 * jax.random.normal(k[1], (3, 3, channels, channels)),
        "c": jax.random.normal(k[2], (channels, classes)),
    }
    return jax.tree_util.Partial(_conv_net, parameters)


def _conv_net(p, x):
    for name, stride in (("a", 1), ("b", 2)):
        x = jax.lax.conv_general_dilated(
            x, p[name], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x)
    return 4 * x.mean((1, 2)) @ p["c"]


def reference(name):
    """A network with values from AutoAttack's own code: classifier, images, labels, values."""
    z = np.load(ASSETS / "reference.npz")
    w = {k.split(".", 1)[1]: jnp.asarray(z[k]) for k in z.files if k.startswith(f"{name}.")}
    values = json.loads((ASSETS / "reference.json").read_text())[name]
    return jax.tree_util.Partial(_reference_net, w), z["x"], z["y"].astype(np.int32), values


def _reference_net(w, x):
    for layer, stride in (("0", 1), ("2", 2)):
        x = jax.lax.conv_general_dilated(
            x, w[f"{layer}.weight"].transpose(2, 3, 1, 0), (stride, stride), [(1, 1)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        x = jax.nn.relu(x + w[f"{layer}.bias"][None, None, None])
    x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    x = jax.nn.relu(x @ w["5.weight"].T + w["5.bias"][None])
    return x @ w["7.weight"].T + w["7.bias"][None]


EPS = {"linf": 0.05, "l2": 0.5, "l1": 3.0, "l0": 3.0}
