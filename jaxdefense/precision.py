"""Full float32 products: what attacks and scores are computed in unless the user says otherwise."""

import contextlib

import jax


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
