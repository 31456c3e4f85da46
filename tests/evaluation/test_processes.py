"""One curve on one device, on eight, and by two processes; a process that dies ends the other."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense.errors import InputError
from jaxdefense.evaluation import blocks, processes
from jaxdefense.evaluation.grid import Measured
from jaxdefense.evaluation.processes import Watch
from tests.evaluation.test_blocks import ATTACK, KEY, RADII, subject

ROOT = Path(__file__).parent.parent.parent

DEVICES = """
import json, jax
jax.config.update("jax_num_cpu_devices", 8)
import jaxdefense as jd
from tests.evaluation.test_blocks import ATTACK, KEY, RADII, subject
net, x, y = subject()
assert jax.local_device_count() == 8
for method in ("nested", "grid"):
    curve = jd.sweep(ATTACK, net, x, y, RADII, KEY, method=method)
    print(json.dumps([curve.smallest_radius.tolist(), curve.evaluations.gradients]))
"""

WORKER = """
import os, sys, json, jax
from jaxdefense.evaluation import blocks, processes
folder, port, process, dies, begun = sys.argv[1:]
if begun == "by join":
    processes.join(folder, f"127.0.0.1:{port}", 2, int(process), patience=3.0)
else:  # as a script may that knows nothing of join and leave
    processes._PATIENCE = 3.0
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(process))
import jaxdefense as jd
from tests.evaluation.test_blocks import ATTACK, KEY, RADII, subject
if dies == process:
    blocks._write = lambda path, found: os._exit(9)
net, x, y = subject()
curve = jd.sweep(ATTACK, net, x, y, RADII, KEY, resume=folder)
print(json.dumps(curve.smallest_radius.tolist()))
if begun == "by join":
    processes.leave()
"""


def one_device(method="nested"):
    net, x, y = subject()
    return jd.sweep(ATTACK, net, x, y, RADII, KEY, method=method)


def test_eight_devices_give_the_curve_of_one():
    run = subprocess.run(
        [sys.executable, "-c", DEVICES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for method, line in zip(("nested", "grid"), run.stdout.splitlines()[-2:], strict=True):
        radii, gradients = json.loads(line)
        whole = one_device(method)
        # Programs of other batches may decide a near tie otherwise: by one radius, no more.
        index = lambda found: np.searchsorted(RADII, found)
        apart = np.abs(index(radii) - index(whole.smallest_radius))
        assert (apart > 0).sum() <= 1
        assert apart.max() <= 1
        assert abs(gradients - whole.evaluations.gradients) <= 0.02 * gradients


def work(folder, dies="none", begun="by join"):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-c", WORKER, str(folder), port]
    return [
        subprocess.Popen(
            [*command, str(process), dies, begun], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for process in (0, 1)
    ]  # fmt: skip


@pytest.mark.parametrize("begun", ["by join", "by jax.distributed"])
def test_two_processes_share_a_sweep_and_both_have_the_curve(tmp_path, begun):
    whole = one_device()
    for worker in work(tmp_path, begun=begun):
        out, err = worker.communicate(timeout=120)
        assert worker.returncode == 0, err[-2000:]
        np.testing.assert_array_equal(json.loads(out.splitlines()[-1]), whole.smallest_radius)


class Ended(Exception):
    """In place of the end of the process."""


class Watched(Watch):
    """One that tells whom it takes for dead instead of ending the tests."""

    def end(self, other):
        raise Ended(other)


def watch(folder, own=0, **settings):
    given = {"since": processes._now(folder), "patience": 0.6, "startup": 1.5, **settings}
    return Watched(folder, own, 2, **given)


def test_signs_of_an_earlier_run_are_neither_life_nor_the_end(tmp_path, monkeypatch):
    """Else every second run into a folder would be ended, or would wait for ever."""
    monkeypatch.setattr(processes, "_BEAT", 0.05)
    for process in "01":
        (tmp_path / process).write_text("done")
        os.utime(tmp_path / process, (1.0, 1.0))
    first = watch(tmp_path)
    assert first.sign_of(0) == first.sign_of(1) == ""
    begun = time.monotonic()
    with pytest.raises(Ended, match="1"):
        first.run()  # the other never comes
    assert time.monotonic() - begun > 1.4
    assert int(first.sign_of(0).split()[0]) > 0  # it has shown itself in spite of its old "done"


def test_a_process_is_dead_when_it_shows_nothing_but_not_when_it_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_BEAT", 0.05)
    one, other = watch(tmp_path), watch(tmp_path, own=1)
    other.start()
    other.task, one.task = "b", "a"
    time.sleep(0.2)
    assert one.elsewhere(1)
    one.task = "b"
    assert not one.elsewhere(1)
    other.finish()
    assert one.sign_of(1) == "done"
    assert one.elsewhere(1)
    one.start()
    time.sleep(1.0)
    assert one.is_alive()  # it has not taken the other for dead
    one.finish()


def test_processes_with_other_inputs_do_not_wait_for_each_other(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def working_on(task):
        yield lambda process: process == 1

    monkeypatch.setattr(blocks, "working_on", working_on)
    monkeypatch.setattr(blocks, "_STRANGE", 0.3)
    run = lambda mask: Measured(
        np.zeros((70, 1), bool), np.zeros((70, 1)), np.zeros((70, 1), int), 0, 0, 0, 0
    )
    with pytest.raises(InputError, match=r"process 1 of 2 .* the same networks"):
        blocks.in_blocks(run, 70, 32, tmp_path, "a" * 16, 0, 2)


@pytest.mark.parametrize("begun", ["by join", "by jax.distributed"])
def test_a_dead_process_ends_the_other_and_the_sweep_resumes(tmp_path, begun):
    first, second = work(tmp_path, "1", begun)
    second.communicate(timeout=120)
    assert second.returncode == 9
    _, err = first.communicate(timeout=120)
    assert first.returncode == 1
    assert "process 1 of 2 gave no sign of life" in err
    assert "run the same command again" in err
    kept = set(tmp_path.rglob("*.npz"))
    assert len(kept) == 2  # those of the process that lived, of three
    net, x, y = subject()
    resumed = jd.sweep(ATTACK, net, x, y, RADII, KEY, resume=tmp_path)
    whole = one_device()
    np.testing.assert_array_equal(resumed.smallest_radius, whole.smallest_radius)
    assert resumed.evaluations == whole.evaluations
    assert len(set(tmp_path.rglob("*.npz")) - kept) == 1
