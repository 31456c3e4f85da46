"""Full float32 products: what attacks and scores are computed in unless the user says otherwise."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdefense.jaxprs import equations


def float32_products() -> contextlib.AbstractContextManager:
    """Keeps GPUs from rounding to TF32 and TPUs to bfloat16 inside products.

    Rounded products flip signs of small gradients. A precision the user has set for JAX
    (``jax_default_matmul_precision``) is left as it is.

    Example:
        >>> with float32_products():
        ...     jax.config.jax_default_matmul_precision
        'float32'
    """
    if getattr(jax.config, "jax_default_matmul_precision", None) is None:
        return jax.default_matmul_precision("float32")
    return contextlib.nullcontext()


def coarsest(function: Callable[..., Any], *like: Any) -> float:
    """The rounding (`finfo.eps`) of the least precise floats that a function computes in.

    Example:
        >>> half = lambda x: x.astype("bfloat16").sum().astype("float32")
        >>> coarsest(half, jax.numpy.zeros(3)) == 2**-7, coarsest(jax.numpy.sum, jax.numpy.zeros(3))
        (True, 1.1920928955078125e-07)
    """
    return max((float(jnp.finfo(dtype).eps) for dtype in floats(function, *like)), default=0.0)


def floats(function: Callable[..., Any], *like: Any) -> list[Any]:
    """The dtypes of all floats that a function makes; arguments may be shapes."""
    traced = jax.make_jaxpr(function)(*like).jaxpr
    made = {getattr(a.aval, "dtype", bool) for e in equations(traced) for a in e.outvars}
    return [dtype for dtype in made if jnp.issubdtype(dtype, jnp.floating)]
