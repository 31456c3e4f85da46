"""Reading programs as JAX has traced them."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal


def equations(jaxpr: Any) -> Iterator[Any]:
    """Every operation of a traced program, those of loops and inner functions among them.

    Example:
        >>> inner = lambda x: jax.jit(jax.numpy.sin)(x) + 1.0
        >>> [e.primitive.name for e in equations(jax.make_jaxpr(inner)(0.0).jaxpr)]
        ['jit', 'sin', 'add']
    """
    for equation in jaxpr.eqns:
        yield equation
        for part in jax.tree.leaves(list(equation.params.values()), is_leaf=_has_equations):
            if _has_equations(part):
                yield from equations(getattr(part, "jaxpr", part))


def constants(closed: Any) -> Iterator[np.ndarray]:
    """The numbers written into a traced program, those of its parts included.

    Example:
        >>> table = np.arange(3.0)
        >>> [c.tolist() for c in constants(jax.make_jaxpr(lambda x: 2.0 * x + table)(table))]
        [[0.0, 1.0, 2.0], 2.0]
    """
    yield from map(_numbers, closed.consts)
    for equation in equations(closed.jaxpr):
        yield from (np.asarray(atom.val) for atom in equation.invars if isinstance(atom, Literal))
        for part in jax.tree.leaves(list(equation.params.values()), is_leaf=_has_equations):
            yield from map(_numbers, getattr(part, "consts", ()))


def _numbers(constant: Any) -> np.ndarray:
    """A constant of a program as numbers; a PRNG key is none by itself."""
    if jax.numpy.issubdtype(getattr(constant, "dtype", float), jax.dtypes.prng_key):
        constant = jax.random.key_data(constant)
    return np.asarray(constant)


def _has_equations(part: Any) -> bool:
    return hasattr(part, "eqns") or hasattr(getattr(part, "jaxpr", None), "eqns")
