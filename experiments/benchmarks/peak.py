"""How much of the chip a gradient uses: operations a second against the maker's peak.

    python -m experiments.benchmarks.peak                     # ResNet-18 in three precisions

The gradient of the loss by the images, as attacks take it, of an untrained network on noise. On a
device whose peak is not listed, the rate alone. Batches are doubled until the device has not the
memory for one, or time runs out.
"""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense import Frozen, bfloat16, losses, models
from jaxdefense.cli import launch
from jaxdefense.evaluation.expense import flops
from jaxdefense.reporting import Table

# Operations a second of dense products, from the makers' data sheets: float32, TF32, bfloat16.
PEAKS = {
    "NVIDIA H100 80GB HBM3": (67e12, 494.5e12, 989e12),
    "NVIDIA H200": (67e12, 494.5e12, 989e12),
    "NVIDIA A100-SXM4-80GB": (19.5e12, 156e12, 312e12),
}
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings."""

    model: str = "resnet18"
    side: int = 32
    channels: int = 3
    first: int = 64
    """images of the first batch"""
    most: int = 65_536
    """images of the largest batch that is tried"""
    seconds: float = 20.0
    """no larger batch once one gradient takes so long"""
    repeats: int = 10


PRESETS = {
    "small": Config(),
    "smoke": Config(model="lenet5", side=28, channels=1, first=4, most=8, repeats=2),
}


def main(config: Config) -> None:
    """Time gradients in every precision and batch size."""
    shape = (config.side, config.side, config.channels)
    module = models.build(config.model)
    net = Frozen(module, models.initialize(module, jax.random.key(0), shape))
    # Forward once, backward to the images once: without gradients of the weights, as much again.
    work = 2 * flops(net, (1, *shape))
    device = jax.devices()[0].device_kind
    body = []
    for place, precision in enumerate(PRECISIONS):
        function: Any = bfloat16(net) if precision == "bfloat16" else net
        peak = PEAKS[device][place] if device in PEAKS else None
        for batch, seconds in _ladder(config, function, shape, precision):
            rate = work * batch / seconds
            share = f"{100 * rate / peak:.1f}" if peak else "unknown"
            body.append((precision, str(batch), f"{1e6 * seconds / batch:.1f}",
                         f"{rate / 1e12:.3f}", share))  # fmt: skip
    header = ("precision", "images", "microseconds an image", "TFLOP/s", "% of peak")
    caption = (
        f"Gradient of {config.model} on {config.side} x {config.side} x {config.channels} images, "
        f"{work / 1e6:.0f} million operations each ({device}); the last batch of each precision is "
        "the largest that was tried and fits."
    )
    print(Table(caption, header, tuple(body), left=1).text("simple"))


def _ladder(config: Config, function: Any, shape: tuple[int, ...], precision: str):
    """Batch sizes with the median seconds of a gradient."""

    @jax.jit
    def gradient(function: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        loss = lambda x: losses.cross_entropy(function(x).astype(jnp.float32), y).sum()
        return jax.grad(loss)(x)

    batch, seconds = config.first, 0.0
    setting = "float32" if precision == "float32" else "tensorfloat32"
    while batch <= config.most and seconds < config.seconds:
        x, y = jnp.full((batch, *shape), 0.5), jnp.zeros(batch, jnp.int32)
        try:
            with jax.default_matmul_precision(setting):
                times = [_timed(gradient, function, x, y) for _ in range(config.repeats + 1)]
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return
        seconds = float(np.median(times[1:]))
        yield batch, seconds
        batch *= 2


def _timed(gradient: Any, *arguments: Any) -> float:
    start = time.perf_counter()
    gradient(*arguments).block_until_ready()
    return time.perf_counter() - start


if __name__ == "__main__":
    launch(main, PRESETS, default="small")
