"""Per-example losses an attack ascends: larger is closer to fooling the classifier.

Every loss takes logits ``[b, k]`` and the label slot: int classes ``[b]`` (or, where it says so,
distributions ``[b, k]``), and returns ``[b]``. Targeted attacks put the target in the label slot
and flip the sign with `targeted`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdefense.typing import Flags, Labels, Logits, Loss, PerExample


def hard_labels(y: Labels) -> Labels:
    """Classes ``[b]`` of a label slot that may hold distributions ``[b, k]``."""
    return y.argmax(-1) if y.ndim == 2 else y


def _pick(logits: Logits, y: Labels) -> PerExample:
    return jnp.take_along_axis(logits, y[:, None], axis=-1)[:, 0]


def _others(logits: Logits, y: Labels) -> Logits:
    """The logits with the label's own entry at minus infinity."""
    own = jax.nn.one_hot(y, logits.shape[-1], dtype=bool)
    return jnp.where(own, -jnp.inf, logits)


def cross_entropy(logits: Logits, y: Labels) -> PerExample:
    """Cross-entropy ``-log softmax(logits)[y]`` (FGSM: Goodfellow et al. 2015, arXiv 1412.6572).

    Written as ``softplus(logsumexp(other logits) - own logit)``: the same function, but its
    gradient stays balanced where float32 softmax saturates. The textbook form loses the
    ``-dz_y`` half of the gradient as soon as the true class has probability ``1 - 6e-8``, and all
    of it once the logits are 88 apart, which makes confident networks look robust. Here the
    gradient keeps its direction at any distance; its size is at least 1e-20 (float16: 1/256).

    Args:
        logits: ``[b, k]``.
        y: classes ``[b]``, or distributions ``[b, k]`` (then ``-sum p log softmax``).

    Example:
        >>> import jax.numpy as jnp
        >>> float(cross_entropy(jnp.zeros((1, 2)), jnp.array([0]))[0])  # log 2
        0.6931...
    """
    if y.ndim == 2:
        return -(y * jax.nn.log_softmax(logits)).sum(-1)
    return _softplus(jax.nn.logsumexp(_others(logits, y), axis=-1) - _pick(logits, y))


@jax.custom_jvp
def _softplus(x: PerExample) -> PerExample:
    return jax.nn.softplus(x)


@_softplus.defjvp
def _softplus_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    # Of small numbers float16 has few: on its way back through a network this must not reach 0.
    least = 1e-20 if float(jnp.finfo(x.dtype).tiny) < 1e-30 else 2.0**-8
    return _softplus(x), jnp.maximum(jax.nn.sigmoid(x), least) * dx


def margin(logits: Logits, y: Labels) -> PerExample:
    """Largest other logit minus the label's logit; positive exactly where misclassified.

    The logit loss of Carlini and Wagner 2017 (arXiv 1608.04644, f6) without its floor.
    """
    y = hard_labels(y)
    return _others(logits, y).max(-1) - _pick(logits, y)


def dlr(logits: Logits, y: Labels) -> PerExample:
    """Difference of logits ratio (Croce and Hein 2020, arXiv 2003.01690, eq. 6).

    ``-(z_y - max_{i != y} z_i) / (z_(1) - z_(3) + 1e-12)`` with sorted logits ``z_(1) >= z_(2)``.
    Invariant to shifting and scaling of the logits. With 2 classes the ratio is constant and has
    no gradient, so there it is `margin`; a sweep says so among its warnings.
    """
    if logits.shape[-1] < 3:
        return margin(logits, y)
    top = jax.lax.top_k(logits, 3)[0]
    return margin(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


def margin_towards(logits: Logits, pair: Labels) -> PerExample:
    """Logit of a target minus the label's: the margin towards one class.

    Args:
        logits: ``[b, k]``.
        pair: label slot ``[b, 2]`` of (true label, target).
    """
    return _pick(logits, pair[:, 1]) - _pick(logits, pair[:, 0])


def dlr_towards(logits: Logits, pair: Labels) -> PerExample:
    """Targeted difference of logits ratio (Croce and Hein 2020, arXiv 2003.01690, eq. 7).

    ``-(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2 + 1e-12)`` with sorted logits. Below 4 classes it
    is undefined, and dividing by ``z_(1) - z_(3)`` would leave no gradient towards the least likely
    of 3, so there it is `margin_towards`. A sweep says so among its warnings.

    Args:
        logits: ``[b, k]``.
        pair: label slot ``[b, 2]`` of (true label, target).
    """
    if logits.shape[-1] < 4:
        return margin_towards(logits, pair)
    top = jax.lax.top_k(logits, 4)[0]
    return margin_towards(logits, pair) / (top[:, 0] - top[:, 2:].mean(-1) + 1e-12)


def kl(logits: Logits, p: Logits) -> PerExample:
    """KL divergence from the distributions ``p`` ``[b, k]`` in the label slot to softmax(logits).

    The inner loss of TRADES (Zhang et al. 2019, arXiv 1901.08573, eq. 5), with the clean
    prediction in the label slot.
    """
    log_p = jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1.0)), 0.0)
    return (p * (log_p - jax.nn.log_softmax(logits))).sum(-1)


@dataclasses.dataclass(frozen=True)
class Targeted:
    """A loss towards the class in the label slot; made by `targeted`."""

    loss: Loss

    def __call__(self, logits: Logits, target: Labels) -> PerExample:
        return -self.loss(logits, target)


def targeted(loss: Loss) -> Targeted:
    """The sign-flipped loss: ascending it moves towards the class in the label slot.

    Example:
        >>> import jax.numpy as jnp
        >>> z = jnp.array([[2.0, 0.0, 1.0]])
        >>> bool(targeted(cross_entropy)(z, jnp.array([0])) > targeted(cross_entropy)(
        ...     z, jnp.array([1])))
        True
    """
    return Targeted(loss)


def fooled(loss: Loss, logits: Logits, y: Labels) -> Flags:
    """Whether the prediction is what the attacker wants.

    Targeted losses want the class in the label slot; all others want anything else.
    """
    hit = logits.argmax(-1) == hard_labels(y)
    return hit if isinstance(loss, Targeted) else ~hit


def score(loss: Loss, logits: Logits, y: Labels) -> PerExample:
    """How far the attacker is ahead: the margin, sign-flipped for a targeted loss."""
    ahead = margin(logits, y)
    return -ahead if isinstance(loss, Targeted) else ahead
