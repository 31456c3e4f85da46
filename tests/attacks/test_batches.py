"""The same rows break however the batch is laid out: split, permuted, padded, over 8 devices."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

CODE = """
import sys, json, jax
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_disable_most_optimizations", True)
from pathlib import Path
from experiments.benchmarks.autoattack_reference import Config, load, other_batches
from jaxdefense.attacks.suites import line_up
from jaxdefense.geometry import BALLS
net, x, y, _ = load(Path("tests/assets"), "standard")
attack = line_up(BALLS[sys.argv[1]], 6, 30)
print(json.dumps(other_batches(attack, net, x[:80], y[:80], float(sys.argv[2]), Config())))
"""


@pytest.mark.parametrize(("norm", "eps"), [("linf", "0.1"), ("l2", "0.5")])
def test_the_same_rows_break_in_any_batch(norm, eps):
    run = subprocess.run(
        [sys.executable, "-c", CODE, norm, eps], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert set(found["differ"]) == {"split", "permuted", "padded", "8 devices"}
    assert found["differ"] == found["of these ties"]
    assert 10 < found["broken"] < 70  # some hold, some fall: either could have changed
