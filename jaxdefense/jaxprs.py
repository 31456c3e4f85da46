"""Reading programs as JAX has traced them."""

from collections.abc import Iterator
from typing import Any

import jax


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


def _has_equations(part: Any) -> bool:
    return hasattr(part, "eqns") or hasattr(getattr(part, "jaxpr", None), "eqns")
