"""Networks that an attacker trains: to transfer attacks from, and to imitate a purifier."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.tree_util import Partial

from jaxdefense import checks, models
from jaxdefense.auditing.budgets import Budget
from jaxdefense.auditing.defence import Defence
from jaxdefense.auditing.plan import Skipped
from jaxdefense.classifiers import Frozen, Normalized, apply, is_random
from jaxdefense.errors import InputError, JaxdefenseError
from jaxdefense.training import fit, optimizer, schedule, supervised
from jaxdefense.training.objectives import forward
from jaxdefense.typing import Classifier, Purifier, example_keys

_BATCH = 64
_LATE = "the time for this audit was over"

NO_OWN = "the classifier is no linen module that could be trained again (jaxdefense.Frozen)"
"""Why there is no network of the classifier's own architecture."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """What an attacker has made of the training images.

    Attributes:
        substitutes: by name; the user's own among them.
        accuracy: of those trained here, on the images of the audit.
        imitation: of the purifier, or None.
        skipped: what could not be trained, and why.
    """

    substitutes: dict[str, Classifier]
    accuracy: dict[str, float] = dataclasses.field(default_factory=dict)
    imitation: Purifier | None = None
    skipped: list[Skipped] = dataclasses.field(default_factory=list)


def train(
    defence: Defence, budget: Budget, x: np.ndarray, y: np.ndarray, key: jax.Array,
    late: Callable[[], bool] = lambda: False,
) -> Trained:  # fmt: skip
    """Trains what the budget allows, on the defence's training images.

    A network of the classifier's own architecture with another seed, where it is a linen one;
    networks of the budget's architectures; and an autoencoder that imitates the purifier.

    Args:
        defence: whose training images, classifier and purifier.
        budget: how much is spent.
        x, y: of the audit.
        key: of initial weights and batches.
        late: whether no further network may be begun.

    Raises:
        InputError: training images that do not fit those of the audit.
    """
    substitutes = dict(defence.substitutes)
    if defence.train is None:
        return Trained(substitutes)
    x_train, y_train = _checked(defence.train, x, y, budget.n_train, key)
    classes = max(int(y_train.max()) + 1, _classes(defence.whole, x))
    blank: dict[str, Frozen] = {}
    accuracy: dict[str, float] = {}
    skipped: list[Skipped] = []
    own = _trainable(defence.whole if defence.classifier is None else defence.classifier)
    if own is not None:
        blank["another seed"] = own
    else:
        skipped.append(Skipped("transfer: another seed", NO_OWN))
    for name in budget.architectures or (("lenet5",) if own is None else ()):
        blank[name] = Frozen(models.build(name, classes))
    if list(blank) == ["another seed"]:
        skipped.append(Skipped("transfer: another architecture", "not within this budget"))
    for index, (name, net) in enumerate(blank.items()):
        here = jax.random.fold_in(key, index)
        if late():
            skipped.append(Skipped(f"transfer: {name}", _LATE))
            continue
        try:
            frozen = _fit(supervised(net.module), net, x_train, y_train, budget, here)
            answers = [np.asarray(_call(frozen, part)).argmax(-1) for part in _parts(x)]
        except Exception as error:  # a network of the user's, and no audit hangs on it
            skipped.append(Skipped(f"transfer: {name}", _told(error)))
            continue
        accuracy[name] = float((np.concatenate(answers) == y).mean())
        substitutes[name] = frozen
    imitation = None
    if defence.purifier is not None and late():
        skipped.append(Skipped("BPDA, learned", _LATE))
    elif defence.purifier is not None:
        here = jax.random.fold_in(key, len(blank))
        module = models.build("u_autoencoder", width=16)
        objective = imitate(module, defence.purifier)
        try:
            imitation = _fit(objective, Frozen(module), x_train, y_train, budget, here)
        except Exception as error:  # of the user's purifier
            skipped.append(Skipped("BPDA, learned", _told(error)))
    return Trained(substitutes, accuracy, imitation, skipped)


def imitate(model: nn.Module, purifier: Purifier):
    """Objective: mean squared error between a model's images and a purifier's of the same images.

    The learned backward pass of Athalye et al. 2018 (arXiv 1802.00420, section 4.1.2). A random
    purifier is drawn anew for every image.
    """
    return Partial(_imitate, model, purifier)


def _imitate(model, purifier, params, model_state, key, x, y):
    draw, dropout = jax.random.split(key)
    wanted = jax.lax.stop_gradient(apply(purifier, example_keys(draw, len(x)), x))
    made, model_state = forward(model, params, model_state, dropout, x)
    value = jnp.mean((made - wanted) ** 2)
    return value, (model_state, {"loss": value})


def _fit(objective: Any, net: Frozen, x, y, budget: Budget, key: jax.Array) -> Frozen:
    variables = models.initialize(net.module, key, x.shape[1:], **dict(net.settings))
    batch = min(_BATCH, len(x))
    result = fit(
        objective, variables, _adam(budget.epochs * (len(x) // batch)), x, y, key=key,
        epochs=budget.epochs, batch_size=batch, progress=False,
    )  # fmt: skip
    return net.replace(variables=result.variables)


def _told(error: Exception) -> str:
    if isinstance(error, JaxdefenseError):
        return str(error)
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


@functools.cache  # optimizers are compared by identity
def _adam(steps: int):
    return optimizer("adam", schedule("cosine", 2e-3, steps))


def _checked(train, x, y, most: int, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    images, labels = np.asarray(train[0]), np.asarray(train[1])
    if images.ndim != 4 or images.shape[1:] != x.shape[1:] or labels.shape != (len(images),):
        raise InputError(
            f"train has images {list(images.shape)} and labels {list(labels.shape)}, but images "
            f"[n, {', '.join(map(str, x.shape[1:]))}] as those of the audit, with a label each, "
            "are needed"
        )
    chosen = np.asarray(jax.random.permutation(key, len(images)))[:most]
    images, labels = images[chosen], labels[chosen]
    if images.dtype != np.uint8:
        checks.check_images(images)
        images = np.round(255 * np.clip(images, 0, 1)).astype(np.uint8)
    return images, labels.astype(np.int32)


def _trainable(classifier: Classifier) -> Frozen | None:
    """A classifier whose architecture can be trained again: that of a linen module."""
    if isinstance(classifier, Normalized):
        classifier = classifier.classifier
    if not (isinstance(classifier, Frozen) and isinstance(classifier.module, nn.Module)):
        return None
    _, *others = inspect.signature(classifier.module.__call__).parameters.values()
    optional = all(p.default is not p.empty or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
                   for p in others if p.name != "train")  # fmt: skip
    return classifier if optional else None


def _classes(classifier: Classifier, x: np.ndarray) -> int:
    keys = example_keys(jax.random.key(0), 1)
    call = lambda x: apply(classifier, keys if is_random(classifier) else None, x)
    return jax.eval_shape(call, jax.ShapeDtypeStruct((1, *x.shape[1:]), jnp.float32)).shape[-1]


def _parts(x: np.ndarray, size: int = 256):
    return (x[start : start + size] for start in range(0, len(x), size))


@jax.jit
def _call(function: Classifier, x):
    return function(x)
