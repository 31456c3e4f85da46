"""Checkpoints: every kind of damage, another configuration, other shapes, and kill -9."""

import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdefense.checkpoints import Checkpoints
from jaxdefense.errors import CheckpointError, InputError

CONFIG = {"model": {"name": "lenet5", "widths": (6, 16)}, "lr": 0.1}


class Moments(NamedTuple):
    mean: jax.Array
    count: jax.Array


def state(value):
    """Containers and dtypes that training states have, keys and absent parts included."""
    weights = np.random.default_rng(value).normal(size=300).astype(np.float32)
    return {
        "params": {"w": jnp.asarray(weights)},
        "moments": Moments(jnp.full((2, 2), value, jnp.bfloat16), jnp.int32(value)),
        "key": jax.random.key(value),
        "best": None,
        "journal": np.arange(9, dtype=np.uint8) + np.uint8(value),
    }


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with steps 1 and 2; copied before anything is done to it."""
    folder = tmp_path_factory.mktemp("saved")
    with Checkpoints(folder, CONFIG) as checkpoints:
        checkpoints.save(1, state(1))
        checkpoints.save(2, state(2))
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def restore(folder, config=CONFIG, template=None):
    with Checkpoints(folder, config) as checkpoints:
        return checkpoints.restore(state(0) if template is None else template)


def files_of(step_folder):
    return sorted(path for path in step_folder.rglob("*") if path.is_file())


def largest(folder):
    """The file that holds the arrays themselves."""
    return max(files_of(folder), key=lambda path: path.stat().st_size)


def flip(path, position, mask=0x10):
    content = bytearray(path.read_bytes())
    content[position] ^= mask
    path.write_bytes(content)


def test_nothing_there_gives_none(tmp_path):
    assert restore(tmp_path / "new" / "folder") is None


def test_the_newest_comes_back_with_its_containers_and_dtypes(copy):
    assert_same(restore(copy), state(2))


def test_only_the_newest_are_kept_and_a_step_can_be_replaced(tmp_path):
    with Checkpoints(tmp_path, CONFIG, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state(step))
        checkpoints.save(3, state(4))
        assert checkpoints.steps() == [2, 3]
        assert_same(checkpoints.restore(state(0)), state(4))
    assert_same(restore(tmp_path), state(4))


@pytest.mark.parametrize("where", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_flipped_byte_in_the_arrays_falls_back_with_a_warning(copy, where):
    path = largest(copy / "2")
    flip(path, int(where * path.stat().st_size))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        restored = restore(copy)
    # A byte that carries no information may be harmless; a wrong value never comes back.
    expected = 1 if caught else 2
    assert_same(restored, state(expected))
    assert all("step 2" in str(warning.message) for warning in caught)


def test_a_flipped_byte_anywhere_never_gives_wrong_values(copy, saved):
    rng = random.Random(0)
    noticed = 0
    for path in files_of(copy / "2"):
        original = path.read_bytes()
        flip(path, rng.randrange(len(original)), rng.choice([1, 16, 128, 255]))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            restored = restore(copy)
        assert_same(restored, state(1 if caught else 2))
        noticed += bool(caught)
        path.write_bytes(original)
    assert noticed >= 3


@pytest.mark.parametrize("keep", [0.0, 0.5])
@pytest.mark.parametrize("name", ["_CHECKPOINT_METADATA", "state/_METADATA", "largest"])
def test_a_truncated_file_falls_back_and_names_the_step(copy, name, keep, capfd):
    path = largest(copy / "2") if name == "largest" else copy / "2" / name
    os.truncate(path, int(keep * path.stat().st_size))
    with pytest.warns(UserWarning, match=r"damaged checkpoint in .*step 2: .* from step 1"):
        restored = restore(copy)
    assert_same(restored, state(1))
    assert "Traceback" not in capfd.readouterr().err


def test_a_tampered_configuration_counts_as_damage(copy):
    path = copy / "2" / "_CHECKPOINT_METADATA"
    path.write_text(path.read_text().replace("lenet5", "lenet6"))
    with pytest.warns(UserWarning, match="does not match its checksum"):
        assert_same(restore(copy), state(1))


def test_training_goes_on_after_a_fallback_and_forgets_the_damaged_step(copy):
    os.truncate(largest(copy / "2"), 10)
    with Checkpoints(copy, CONFIG) as checkpoints:
        with pytest.warns(UserWarning, match="step 2"):
            checkpoints.restore(state(0))
        assert checkpoints.steps() == [1, 2]
        checkpoints.save(1, state(5))
        assert checkpoints.steps() == [1]
    assert_same(restore(copy), state(5))


def test_no_good_one_left_is_an_error_that_says_what_to_do(copy, capfd):
    flip(largest(copy / "1"), largest(copy / "1").stat().st_size // 2)
    os.truncate(largest(copy / "2"), 10)
    with pytest.raises(CheckpointError, match=r"every checkpoint in .* is damaged.*delete the"):
        restore(copy)
    assert capfd.readouterr().err == ""


def test_another_configuration_lists_what_differs(copy):
    other = {"model": {"name": "resnet18", "widths": [6, 16]}, "seed": 3}
    with pytest.raises(CheckpointError) as caught:
        restore(copy, config=other)
    message = str(caught.value)
    assert 'model.name was "lenet5", is "resnet18"' in message
    assert "lr was 0.1, is absent" in message
    assert "seed was absent, is 3" in message
    assert "widths" not in message
    assert "delete this one" in message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"params": {"w": jnp.zeros(301)}}, r"params/w was \"float32\[300\]\""),
        ({"params": {"w": jnp.zeros(300, jnp.float16)}}, r"is \"float16\[300\]\""),
        ({"params": {"v": jnp.zeros(300)}}, r"params/v was absent"),
        ({"best": jnp.zeros(2)}, r"best was absent"),
    ],
)
def test_other_shapes_or_dtypes_are_an_error(copy, change, named):
    with pytest.raises(CheckpointError, match=named):
        restore(copy, template={**state(0), **change})


def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"cannot write checkpoints to .*another output"):
        Checkpoints(tmp_path / "file", CONFIG)


def test_a_folder_that_is_gone_says_so(copy):
    with Checkpoints(copy, CONFIG) as checkpoints:
        shutil.rmtree(copy)
        with pytest.raises(CheckpointError, match=r"cannot save step 3 to .*No such file"):
            checkpoints.save(3, state(3))


def test_a_full_disk_says_so_and_the_earlier_are_kept(copy, monkeypatch):
    usage = shutil.disk_usage(copy)._replace(free=100)
    with Checkpoints(copy, CONFIG) as checkpoints:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(CheckpointError, match=r"cannot save step 3 .*and 100 are free"):
            checkpoints.save(3, state(3))
    assert_same(restore(copy), state(2))


def test_a_configuration_of_numpy_numbers_and_paths_is_plain(tmp_path):
    with Checkpoints(tmp_path, {"lr": np.float32(0.5), "at": Path("a/b"), "n": (1,)}) as kept:
        kept.save(1, state(1))
    assert_same(restore(tmp_path, {"lr": 0.5, "at": "a/b", "n": [1]}), state(1))


@pytest.mark.parametrize("config", [{"a": object()}, {"a": jnp.zeros(2)}])
def test_a_configuration_that_is_no_json_is_an_input_error(tmp_path, config):
    with pytest.raises(InputError, match="plain JSON"):
        Checkpoints(tmp_path, config)


def test_keep_must_be_positive(tmp_path):
    with pytest.raises(InputError, match="keep is 0"):
        Checkpoints(tmp_path, CONFIG, keep=0)


TRAINING = """
import sys, time
import jax, numpy as np, optax
sys.path.insert(0, sys.argv[1])
from tiny_training import train
from jaxdefense.checkpoints import Checkpoints

class Slow(Checkpoints):
    def save(self, step, state):
        super().save(step, state)
        print("saved", step, flush=True)
        time.sleep(float(sys.argv[3]))

with Slow(sys.argv[2], {"seed": 7}) as checkpoints:
    result = train(checkpoint=checkpoints, save_seconds=0, epochs=3)
leaves = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(result.variables))}
np.savez(sys.argv[2] + ".npz", **leaves)
print("steps", result.steps, flush=True)
"""


TINY = Path(__file__).parent / "training" / "tiny_training.py"


def tiny_training():
    """The module the subprocess trains with."""
    spec = importlib.util.spec_from_file_location(TINY.stem, TINY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(folder, pause):
    command = [sys.executable, "-W", "error", "-c", TRAINING, TINY.parent, folder, str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_kill_9_and_resume_gives_the_same_bits(tmp_path):
    killed = start(tmp_path / "killed", 0.2)
    seen = [killed.stdout.readline() for _ in range(3)]
    assert seen[-1] == "saved 3\n", killed.stderr.read()
    time.sleep(0.25)  # in the pause after the third save, or in the middle of the fourth
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    killed.communicate()
    assert not (tmp_path / "killed.npz").exists()

    resumed = start(tmp_path / "killed", 0)
    out, err = resumed.communicate(timeout=60)
    assert (resumed.returncode, err) == (0, "")
    first = int(out.split()[1])
    assert 4 <= first <= 5  # it went on instead of starting anew
    assert out.endswith("steps 12\n")

    # In a process of its own as well, because the tests compile with fewer optimisations.
    uninterrupted = start(tmp_path / "whole", 0)
    assert "steps 12\n" in uninterrupted.communicate(timeout=60)[0]
    with np.load(tmp_path / "killed.npz") as leaves, np.load(tmp_path / "whole.npz") as whole:
        assert len(leaves) == len(whole) > 0
        for name in whole:
            np.testing.assert_array_equal(leaves[name], whole[name])
