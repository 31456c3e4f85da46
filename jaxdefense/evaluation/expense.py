"""What a defence costs at test time: parameters, operations, time for an answer."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense.classifiers import Frozen, apply, join, split
from jaxdefense.errors import InputError
from jaxdefense.typing import Images, PyTree, example_keys


def parameters(function: PyTree) -> int:
    """How many numbers a callable holds; of a `Frozen` module those that were trained.

    Args:
        function: a classifier, purifier or both, as a pytree. A plain function that closes over
            its parameters shows none of them.

    Example:
        >>> import jax, jax.numpy as jnp, jaxdefense as jd
        >>> from jaxdefense import models
        >>> model = models.build("lenet5")
        >>> net = jd.Frozen(model, models.initialize(model, jax.random.key(0), (28, 28, 1)))
        >>> parameters(jd.Purified(jnp.round, net))
        61706
    """
    whole = lambda leaf: isinstance(leaf, Frozen)
    counted = [
        leaf.variables.get("params", {}) if whole(leaf) else leaf
        for leaf in jax.tree.leaves(function, is_leaf=whole)
    ]
    return sum(leaf.size for leaf in jax.tree.leaves(counted) if hasattr(leaf, "size"))


def flops(function: Callable[..., Any], shape: Sequence[int]) -> float:
    """Floating-point operations of one call, as XLA counts them before it optimises.

    Args:
        function: classifier or purifier, random or not; nothing is computed.
        shape: ``(b, h, w, c)`` of the images. Divide by b for one image.

    Returns:
        Multiplications and additions counted one each; a convolution's positions in the padding do
        not count. An estimate: it says nothing about memory traffic.

    Raises:
        InputError: a shape that is not that of images, or no CPU backend beside the accelerator's.

    Example:
        >>> import jax.numpy as jnp
        >>> weights = jnp.ones((12, 5))
        >>> flops(lambda x: x.reshape(len(x), -1) @ weights, (10, 2, 2, 3))  # 2 * 10 * 12 * 5
        1200.0
    """
    if len(shape) != 4:
        raise InputError(f"the shape is {tuple(shape)}, but images are (b, h, w, c)")
    arrays, static = split(function)
    x = jax.ShapeDtypeStruct(tuple(shape), jnp.float32)
    keys = jax.eval_shape(lambda: example_keys(jax.random.key(0), shape[0]))
    call = jax.jit(lambda arrays, keys, x: apply(join(arrays, static), keys, x))
    shapes = [jax.ShapeDtypeStruct(np.shape(array), array.dtype) for array in arrays]
    # Accelerators count nothing before they have compiled; the number is the same everywhere.
    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            counted = call.lower(shapes, keys, x).cost_analysis() or {}
        return float(counted["flops"])
    except (RuntimeError, KeyError):
        raise InputError(
            "operations are counted by JAX's CPU backend, which is not there or does not count: "
            "leave JAX_PLATFORMS unset, or add cpu to it"
        ) from None


class Latency(NamedTuple):
    """Seconds that a call takes.

    Attributes:
        median: over the repeats.
        low, high: their quartiles.
    """

    median: float
    low: float
    high: float


def latency(
    function: Callable[..., Any], x: Images | np.ndarray, *, repeats: int = 30, warmup: int = 3
) -> Latency:
    """Seconds from the call with a batch of images to its answer, compiled and waited for.

    Compiling and the first calls do not count; images are on the device beforehand. For one
    image's latency give one image, for throughput divide a large batch's by its size, and say
    which. Compare functions on the same idle machine only.

    Args:
        function: classifier or purifier, random or not.
        x: images ``[b, h, w, c]``.
        repeats: calls that are timed, one by one.
        warmup: calls before them; at least one, which compiles.

    Raises:
        InputError: fewer than one repeat or warm-up call.

    Example:
        >>> import jax.numpy as jnp
        >>> taken = latency(lambda x: x.sum((1, 2)), jnp.zeros((8, 4, 4, 3)), repeats=5)
        >>> 0 < taken.low <= taken.median <= taken.high
        True
    """
    if repeats < 1 or warmup < 1:
        raise InputError(f"repeats is {repeats} and warmup {warmup}, but both must be 1 or more")
    arrays, static = split(function)
    call = jax.jit(lambda arrays, keys, x: apply(join(arrays, static), keys, x))
    ready = jax.block_until_ready
    inputs = ready((arrays, example_keys(jax.random.key(0), len(x)), jnp.asarray(x, jnp.float32)))
    for _ in range(warmup):
        ready(call(*inputs))
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        ready(call(*inputs))
        taken.append(time.perf_counter() - start)
    low, median, high = np.quantile(taken, [0.25, 0.5, 0.75])
    return Latency(float(median), float(low), float(high))
