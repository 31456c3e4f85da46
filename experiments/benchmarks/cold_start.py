"""What a fresh process pays before its first curve, without and with the compilation cache.

Three processes one after another, each with the sweep of an untrained network on noise: no cache,
an empty cache, the cache that the second has filled.

    python -m experiments.benchmarks.cold_start
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile

from jaxdefense.cli import launch
from jaxdefense.reporting import Table

PROCESS = """
import time
start = time.perf_counter()
import json, sys
import jax, numpy as np
import jaxdefense as jd
from jaxdefense import cli, models
model, method = sys.argv[1:]
cli.use_compilation_cache()
imported = time.perf_counter()
shape = (28, 28, 1) if model == "lenet5" else (32, 32, 3)
module = models.build(model)
net = jd.Frozen(module, models.initialize(module, jax.random.key(0), shape))
x = np.random.default_rng(0).random((32, *shape), np.float32)
y = np.asarray(net(x)).argmax(-1)
made = time.perf_counter()
attack, key = jd.attacks.pgd(), jax.random.key(0)
sweep = lambda: jd.sweep(attack, net, x, y, [0.01, 0.02], key, method=method)
sweep()
first = time.perf_counter()
sweep()
again = time.perf_counter()
times = [imported - start, made - imported, first - made, again - first]
print(json.dumps(times))
"""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings."""

    models: tuple[str, ...] = ("lenet5", "resnet20")
    """names of classifiers"""
    method: str = "nested"
    """of the sweep"""


def main(config: Config) -> None:
    """Time fresh processes."""
    body = []
    for model in config.models:
        with tempfile.TemporaryDirectory() as folder:
            caches = {"none": "", "empty": folder, "filled": folder}
            for name, cache in caches.items():
                environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
                environment["JAX_ENABLE_COMPILATION_CACHE"] = str(bool(cache)).lower()
                run = subprocess.run(
                    [sys.executable, "-c", PROCESS, model, config.method],
                    env=environment, check=True, capture_output=True, text=True,
                )  # fmt: skip
                times = json.loads(run.stdout.splitlines()[-1])
                body.append((model, name, *(f"{seconds:.1f}" for seconds in times)))
    header = ("network", "cache", "import", "network made", "first sweep", "second sweep")
    caption = "Seconds of a fresh process: PGD-40 at two radii on 32 images."
    print(Table(caption, header, tuple(body), 2).text("simple"))


if __name__ == "__main__":
    launch(main, {"small": Config()}, default="small")
