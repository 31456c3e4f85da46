"""What a loop's body computes from its constants alone, computed once before the loop.

XLA on a CPU leaves such work inside: every step of an attack would transform the weights anew for
its fast convolutions, which a small batch does not pay back.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core as jex

# What grows by more than this is left inside: there it is fused with what uses it.
GROWTH = 2


def hoisted(body: Callable[..., Any], *like: Any) -> Callable[..., Any]:
    """The same function, with all that does not depend on its arguments already computed.

    Call it right before the loop, outside of it.

    Args:
        body: pytrees of arrays to a pytree of arrays; closes over what it does not change.
        like: arguments as it will get them.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> weights = jnp.arange(3.0)
        >>> step = hoisted(lambda x: x + jnp.sin(weights), jnp.zeros(3))
        >>> jax.lax.fori_loop(0, 2, lambda i, x: step(x), jnp.zeros(3)).round(2).tolist()
        [0.0, 1.6799999475479126, 1.8199999332427979]
    """
    closed, shape = jax.make_jaxpr(body, return_shape=True)(*like)
    known = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    left = []
    for equation in closed.jaxpr.eqns:
        inputs = [atom for atom in equation.invars if not isinstance(atom, jex.Literal)]
        grows = _size(equation.outvars) > GROWTH * _size(inputs)
        if not inputs or grows or equation.effects or not all(atom in known for atom in inputs):
            left.append(equation)
        else:
            known |= _run(equation, known)

    def rest(*arguments: Any) -> Any:
        values = known | dict(zip(closed.jaxpr.invars, jax.tree.leaves(arguments), strict=True))
        for equation in left:
            values |= _run(equation, values)
        outputs = [_read(atom, values) for atom in closed.jaxpr.outvars]
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return rest


def _size(atoms: list[Any]) -> int:
    return sum(atom.aval.size for atom in atoms)


def _read(atom: Any, values: dict[Any, Any]) -> Any:
    return atom.val if isinstance(atom, jex.Literal) else values[atom]


def _run(equation: Any, values: dict[Any, Any]) -> dict[Any, Any]:
    """What one operation gives."""
    primitive = equation.primitive
    inputs = [_read(atom, values) for atom in equation.invars]
    with equation.ctx.manager:  # what JAX was told for this part of the program alone
        outputs = primitive.bind(*inputs, **primitive.get_bind_params(equation.params))
    return dict(
        zip(equation.outvars, outputs if primitive.multiple_results else [outputs], strict=True)
    )
