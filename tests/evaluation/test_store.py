"""Kept results: the same inputs are read back, anything else is measured."""

import dataclasses
import functools
import json
import random
import zipfile
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdefense as jd
from jaxdefense.classifiers import Composite
from jaxdefense.errors import InputError
from jaxdefense.evaluation import recall, store
from tests.conftest import Linear

KEY = jax.random.key(0)
RADII = [0.0, 0.02, 0.1]
X, _ = Linear.data()
BIM = jd.attacks.bim(steps=3)


class Flat(nn.Module):
    classes: int = 3

    @nn.compact
    def __call__(self, x, scale=1.0):
        return scale * nn.Dense(self.classes)(x.reshape(len(x), -1))


def frozen(seed=0, **fields):
    return jd.Frozen(Flat(**fields), Flat(**fields).init(jax.random.key(seed), X))


TABLE = np.array([0.5, 1.0, 0.8], np.float32).reshape(1, 1, 1, 3)


def edited(change):
    """As if the module's code had been changed in its file: name and settings are the same."""

    class Flat(nn.Module):
        classes: int = 3

        @nn.compact
        def __call__(self, x, scale=1.0):
            return scale * nn.Dense(self.classes)(change(x).reshape(len(x), -1))

    Flat.__qualname__ = "Flat"
    return frozen().replace(module=Flat())


NET = frozen()
Y = np.asarray(NET(X).argmax(-1))


@pytest.fixture
def measured(monkeypatch):
    """Counts the sweeps that are really run."""
    runs = []
    sweep = store.sweep
    monkeypatch.setattr(store, "sweep", lambda *a, **k: runs.append(a) or sweep(*a, **k))
    return runs


def assert_same(one, other):
    for field in dataclasses.fields(one):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)
        else:
            assert left == right
            assert type(left) is type(right)


def test_the_same_inputs_are_read_back(tmp_path, measured):
    first = recall(tmp_path / "new" / "folder", BIM, NET, X, Y, RADII, KEY)
    again = recall(tmp_path / "new" / "folder", BIM, frozen(), X, Y, np.array(RADII), KEY)
    assert len(measured) == 1
    assert_same(first, again)
    assert_same(first, jd.sweep(BIM, NET, X, Y, RADII, KEY))
    assert [path.suffix for path in (tmp_path / "new" / "folder").iterdir()] == [".npz"]


def test_an_old_style_key_and_passing_the_deployed_function_as_surrogate_change_nothing(
    tmp_path, measured
):
    recall(tmp_path, BIM, NET, X, Y, RADII, KEY)
    recall(tmp_path, BIM, NET, X, Y, RADII, jax.random.key_data(KEY))
    assert recall(tmp_path, BIM, NET, X, Y, RADII, KEY, NET).knowledge == "white-box"
    assert len(measured) == 1


CHANGES = {
    "parameters": {"deployed": frozen(seed=1)},
    "one weight": {
        "deployed": NET.replace(variables=jax.tree.map(lambda v: v.at[0].add(1e-6), NET.variables))
    },
    "architecture": {"deployed": frozen(classes=4)},
    "call settings": {"deployed": NET.replace(settings=(("scale", 2.0),))},
    "surrogate": {"surrogate": frozen(seed=1)},
    "equal surrogate": {"surrogate": frozen()},
    "radii": {"radii": [0.0, 0.02, 0.11]},
    "order of radii": {"radii": RADII[::-1]},
    "step size": {"attack": jd.attacks.bim(steps=3, step_size=0.3)},
    "steps": {"attack": jd.attacks.bim(steps=4)},
    "loss": {"attack": jd.attacks.bim(steps=3, loss=jd.losses.margin)},
    "ball": {"attack": jd.attacks.bim(jd.l2, steps=3)},
    "what eps is": {"attack": dataclasses.replace(BIM, minimal=True)},
    "code": {"deployed": edited(lambda x: jnp.clip(x, 0.1, 0.9))},
    "a table in the code": {"deployed": edited(lambda x: x * TABLE)},
    "code of the gradient alone": {"deployed": edited(lambda x: jax.lax.stop_gradient(x))},
    "key": {"key": jax.random.key(1)},
    "a pixel": {"x": X.at[0, 0, 0, 0].set(0.5)},
    "a label": {"y": np.where(np.arange(6) == 0, (Y + 1) % 3, Y)},
    "fewer images": {"x": X[:5], "y": Y[:5]},
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    recall(folder, BIM, NET, X, Y, RADII, KEY)
    return folder


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_is_measured_anew(kept, measured, change):
    inputs = {"attack": BIM, "deployed": NET, "x": X, "y": Y, "radii": RADII, "key": KEY}
    recall(kept, **inputs)
    assert not measured
    recall(kept, **(inputs | CHANGES[change]))
    assert len(measured) == 1


def test_a_minimum_norm_attack_and_the_same_at_a_radius_are_not_confused(tmp_path, measured):
    fmn = jd.attacks.fmn(steps=3)
    for attack in (fmn, jd.attacks.at_radius(fmn, jd.linf)):
        recall(tmp_path, attack, NET, X, Y, RADII, KEY, frozen(seed=1))
    assert len(measured) == 2


def test_another_table_in_the_code_is_another_function(tmp_path, measured):
    for factor in (1.0, 1.0, 0.9):
        table = factor * TABLE
        recall(tmp_path, BIM, edited(lambda x, table=table: x * table), X, Y, RADII, KEY)
    assert len(measured) == 2


def test_code_that_computes_the_same_is_the_same(tmp_path, measured):
    recall(tmp_path, BIM, NET, X, Y, RADII, KEY)
    recall(tmp_path, BIM, edited(lambda x: x), X, Y, RADII, KEY)
    assert len(measured) == 1


def test_a_damaged_file_is_measured_anew_and_replaced(tmp_path, measured):
    first = recall(tmp_path, BIM, NET, X, Y, RADII, KEY)
    (path,) = tmp_path.iterdir()
    good = path.read_bytes()
    for content in (b"", b"nonsense", good[: len(good) // 2], good[:-1]):
        measured.clear()
        path.write_bytes(content)
        assert_same(recall(tmp_path, BIM, NET, X, Y, RADII, KEY), first)
        assert len(measured) == 1
        assert_same(recall(tmp_path, BIM, NET, X, Y, RADII, KEY), first)
        assert len(measured) == 1


def test_a_file_of_other_fields_is_measured_anew(tmp_path, measured):
    recall(tmp_path, BIM, NET, X, Y, RADII, KEY)
    (path,) = tmp_path.iterdir()
    np.savez(path, json=np.array(json.dumps({"evaluations": {"gradients": 1}})))
    recall(tmp_path, BIM, NET, X, Y, RADII, KEY)
    assert len(measured) == 2


def test_a_flipped_bit_never_gives_another_result(tmp_path, monkeypatch):
    first = recall(tmp_path, BIM, NET, X, Y, RADII, KEY)
    (path,) = tmp_path.iterdir()
    good, rng = path.read_bytes(), random.Random(0)
    noticed = 0

    def sweep(*_, **__):
        nonlocal noticed
        noticed += 1
        return first

    monkeypatch.setattr(store, "sweep", sweep)
    for _ in range(300):
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        assert_same(recall(tmp_path, BIM, NET, X, Y, RADII, KEY), first)
    assert noticed > 200


def test_a_long_array_cut_short_by_its_header_is_noticed(tmp_path):
    """numpy stops reading before the checksum, and would give half of the radii back."""
    result = jd.sweep(BIM, NET, X, Y, [0.0], KEY)
    path = tmp_path / "long.npz"
    store._write(path, dataclasses.replace(result, smallest_radius=np.arange(2000.0)))
    assert len(store._read(path).smallest_radius) == 2000
    path.write_bytes(path.read_bytes().replace(b"(2000,)", b"(1000,)"))
    with pytest.raises(zipfile.BadZipFile):
        store._read(path)


def test_plain_functions_are_told_apart_by_what_they_compute(tmp_path, measured):
    def closed(seed, scale=1.0):
        classifier = Linear.classifier(Linear.weights(seed))
        return lambda x: scale * classifier(x)

    def kept(deployed, surrogate=None):
        before = len(measured)
        recall(tmp_path, BIM, deployed, X, Y, RADII, KEY, surrogate)
        return len(measured) == before

    assert not kept(closed(0))
    assert kept(closed(0)), "another object, the same function"
    assert not kept(closed(1)), "other parameters in the closure"
    assert not kept(closed(0, 2.0)), "another number in the code"
    assert not kept(NET, closed(0))
    assert not kept(NET, closed(1))
    assert kept(NET, closed(0))
    assert not kept(jd.Purified(lambda x: jnp.round(x), NET))
    assert not kept(jd.Purified(lambda x: jnp.round(2 * x) / 2, NET))
    assert kept(jd.Purified(lambda x: jnp.round(x), NET))


def test_plain_functions_that_call_the_host_are_refused(tmp_path):
    """What they compute there is not traced."""
    like = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)
    host = lambda x: jax.pure_callback(np.asarray, like(x), x)
    for deployed in (lambda x: NET(host(x)), jd.Purified(host, NET)):
        with pytest.raises(InputError, match=r"plain function.*Use Frozen\(module, variables\)"):
            recall(tmp_path, BIM, deployed, X, Y, RADII, KEY)
    with pytest.raises(InputError, match="plain function"):
        recall(tmp_path, BIM, NET, X, Y, RADII, KEY, lambda x: NET(host(x)))
    assert not list(tmp_path.iterdir())


class Activated(nn.Module):
    act: Any = nn.relu

    @nn.compact
    def __call__(self, x):
        return self.act(nn.Dense(3)(x.reshape(len(x), -1)))


class Stateful(nnx.Module):
    """With a random generator among its parts, and functions of flax in its structure."""

    def __init__(self, act):
        rngs = nnx.Rngs(0)
        self.dense, self.act = nnx.Linear(X[0].size, 3, rngs=rngs), act
        self.rngs = rngs

    def __call__(self, x):
        return self.act(self.dense(x.reshape(len(x), -1)))


def linen_with(act):
    module = Activated(act)
    return jd.Frozen(module, module.init(jax.random.key(0), X))


@pytest.mark.parametrize("make", [linen_with, Stateful])
def test_networks_with_functions_of_a_library_are_told_apart(tmp_path, measured, make):
    def kept(act):
        net = make(act)
        return recall(tmp_path, BIM, net, X, np.asarray(net(X).argmax(-1)), RADII, KEY)

    kept(jax.nn.relu)
    kept(jax.nn.tanh)
    kept(jax.nn.relu)
    assert len(measured) == 2
    kept(functools.partial(jax.nn.leaky_relu, negative_slope=0.1))
    kept(functools.partial(jax.nn.leaky_relu, negative_slope=0.2))
    assert len(measured) == 4
    # linen shows these as "<lambda>", as it would any other: they are told by what is traced.
    kept(lambda x: 2 * x)
    kept(lambda x: 3 * x)
    assert len(measured) == 6
    like = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)
    with pytest.raises(InputError, match="may hold parameters"):
        kept(lambda x: jax.pure_callback(np.asarray, like(x), x))


def test_a_module_of_a_library_is_told_by_its_settings(tmp_path, measured):
    """Its default initialisers are closures of flax."""
    flat = lambda x: x.reshape(len(x), -1)
    for module in (nn.Dense(3), nn.Dense(3), nn.Dense(3, use_bias=False)):
        net = jd.Frozen(module, module.init(jax.random.key(0), flat(X)))
        small = jd.Purified(jax.nn.relu, net)
        recall(tmp_path, BIM, Flattened(small), X, Y, RADII, KEY)
    assert len(measured) == 2


class Flattened(Composite):
    inner: Any

    def __call__(self, x):
        return self.inner(x.reshape(len(x), -1))


def test_bad_input_is_one_error_without_another_behind_it(tmp_path):
    with pytest.raises(InputError, match="negative eps") as caught:
        recall(tmp_path, BIM, NET, X, Y, [-1.0], KEY)
    assert caught.value.__context__ is None


def test_a_result_that_cannot_be_written_is_not_lost(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match=r"cannot keep .* name another"):
        result = recall(tmp_path / "file", BIM, NET, X, Y, RADII, KEY)
    assert result.n == 6

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning, match="No space left"):
        recall(tmp_path / "other", BIM, NET, X, Y, RADII, KEY)
    assert not list((tmp_path / "other").iterdir())
