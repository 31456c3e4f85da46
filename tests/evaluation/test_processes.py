"""One curve on one device, on eight, and by two processes; a process that dies ends the other."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

import jaxdefense as jd
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
folder, port, process, dies = sys.argv[1:]
processes.join(folder, f"127.0.0.1:{port}", 2, int(process), patience=3.0)
import jaxdefense as jd
from tests.evaluation.test_blocks import ATTACK, KEY, RADII, subject
if dies == process:
    blocks._write = lambda path, found: os._exit(9)
net, x, y = subject()
curve = jd.sweep(ATTACK, net, x, y, RADII, KEY, resume=folder)
print(json.dumps(curve.smallest_radius.tolist()))
processes.leave(folder)
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
        # Programs of other batches may decide a near tie otherwise.
        assert (np.array(radii) != whole.smallest_radius).sum() <= 1
        assert abs(gradients - whole.evaluations.gradients) <= 0.02 * gradients


def work(folder, dies="none"):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-c", WORKER, str(folder), port]
    return [
        subprocess.Popen(
            [*command, str(process), dies], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for process in (0, 1)
    ]  # fmt: skip


def test_two_processes_share_a_sweep_and_both_have_the_curve(tmp_path):
    whole = one_device()
    for worker in work(tmp_path):
        out, err = worker.communicate(timeout=120)
        assert worker.returncode == 0, err[-2000:]
        np.testing.assert_array_equal(json.loads(out.splitlines()[-1]), whole.smallest_radius)


def test_a_dead_process_ends_the_other_and_the_sweep_resumes(tmp_path):
    first, second = work(tmp_path, dies="1")
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
