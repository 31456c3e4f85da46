"""Static examples: crafted once, then shown to any function, as the older papers do it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense import checks
from jaxdefense.attacks.attack import Attack, check_attack
from jaxdefense.classifiers import Composite, Static, apply, fold, join, split
from jaxdefense.errors import InputError
from jaxdefense.evaluation.clean import clean_correct, keys_at
from jaxdefense.evaluation.devices import batched, everywhere, with_memory
from jaxdefense.evaluation.robustness import interval
from jaxdefense.geometry import inside64
from jaxdefense.losses import Targeted
from jaxdefense.precision import float32_products
from jaxdefense.programs import make_room
from jaxdefense.typing import Classifier, Images, Keys, Labels, PyTree, one_key

# Keeps the randomness of a random defence's answers apart from all an attack has seen.
_STATIC = 2**30 + 2


@dataclasses.dataclass(frozen=True)
class StaticAccuracy:
    """How a function does on static examples.

    Attributes:
        accuracy: share of examples classified correctly both clean and attacked, so that it
            compares with `Robustness.robust_accuracy`.
        interval: ``[2]``, its 95 % Clopper-Pearson interval.
        clean_accuracy: without the attack.
        robust: per example ``[n]``.
        n: number of examples.
    """

    accuracy: float
    interval: np.ndarray
    clean_accuracy: float
    robust: np.ndarray
    n: int

    def __str__(self) -> str:
        low, high = 100 * self.interval
        return f"{100 * self.accuracy:.1f} % [{low:.1f}, {high:.1f}], n = {self.n}"


@dataclasses.dataclass(frozen=True)
class Crafted:
    """Adversarial images with where they come from; made by `craft`.

    Attributes:
        x_adv: ``[n, h, w, c]``, as the attack returned them.
        x, y: the clean images and labels they belong to.
        valid: ``[n]``, whether each is finite, in [0, 1] and in its ball, measured in float64.
            Where one is not, the clean image takes its place in `accuracy`.
        eps: ``[n]``.
        attack: its name.
        settings: all it does, as one line.
        norm: "linf", "l2", "l1", or "sigma" where eps is not the radius of a ball.
        key: the PRNG key.
        crafted_on: what was attacked, in words.
    """

    x_adv: np.ndarray
    x: np.ndarray
    y: np.ndarray
    valid: np.ndarray
    eps: np.ndarray
    attack: str
    settings: str
    norm: str
    key: jax.Array
    crafted_on: str

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.y)

    @property
    def seed(self) -> tuple[int, ...]:
        """Data of the PRNG key."""
        return tuple(int(word) for word in np.asarray(jax.random.key_data(self.key)).ravel())

    def accuracy(self, deployed: Classifier, batch_size: int | None = None) -> StaticAccuracy:
        """How a function does on these examples, whatever they were crafted on.

        An upper bound on its robust accuracy, and mostly a far too high one: nothing was crafted
        against this function.

        Args:
            deployed: any classifier; a random one gets keys the attack has not seen.
            batch_size: images per program call.

        Raises:
            InputError: a function that cannot be called on such images, as in `jaxdefense.sweep`.
        """
        rows = min(batch_size or _rows(), self.n)
        correct = clean_correct(deployed, self.x, self.y, self.key, rows)
        shown = np.where(self.valid[:, None, None, None], self.x_adv, self.x)
        arrays, static = split(deployed)
        arrays = everywhere(None, arrays)

        def wrong(index: np.ndarray) -> jax.Array:
            keys = fold(keys_at(self.key, jnp.asarray(index)), _STATIC)
            images, labels = jnp.asarray(shown[index]), jnp.asarray(self.y[index])
            return _wrong(static, arrays, keys, images, labels)

        with float32_products():
            robust = correct & ~(batched(wrong, self.n, rows) & self.valid)
        return StaticAccuracy(
            accuracy=float(robust.mean()),
            interval=interval(int(robust.sum()), self.n),
            clean_accuracy=float(correct.mean()),
            robust=robust,
            n=self.n,
        )

    def __str__(self) -> str:
        radii = f"{self.eps.min():g}" + (f" to {self.eps.max():g}" if np.ptp(self.eps) else "")
        faults = int((~self.valid).sum())
        return (
            f"{self.attack} on {self.crafted_on}, eps {radii} ({self.norm}), n = {self.n}, "
            f"seed {self.seed}" + (f"; {faults} invalid and not used" if faults else "")
        )


def craft(
    attack: Attack,
    classifier: Classifier,
    x: Images | np.ndarray,
    y: Labels | np.ndarray,
    eps: float | np.ndarray,
    key: jax.Array,
    batch_size: int | None = None,
    *,
    name: str | None = None,
) -> Crafted:
    """Crafts adversarial images once, to show them to several functions afterwards.

    Static examples do not know the defence they are shown to. Print them beside a sweep, where
    they are crafted anew against each function, to see how much of a claim rests on that.

    Args:
        attack: any.
        classifier: what is attacked.
        x, y: images ``[n, h, w, c]`` and labels ``[n]``.
        eps: one radius, or one for each example ``[n]``.
        key: ``jax.random.key(seed)``; example i uses ``fold_in(key, i)``, as in a sweep.
        batch_size: images per program call; changes the speed only.
        name: what the classifier is called in print; told from its type by default.

    Raises:
        InputError: images, labels or radii that cannot be right; a targeted attack whose targets
            would have to be in y.

    Example:
        >>> import jax, jax.numpy as jnp, jaxdefense as jd
        >>> brightness = lambda x: jnp.stack([x.sum((1, 2, 3)), 8 - x.sum((1, 2, 3))], -1)
        >>> x, y = jnp.full((20, 4, 4, 1), 0.3), jnp.zeros(20, jnp.int32)
        >>> crafted = craft(jd.attacks.fgsm(), brightness, x, y, 0.1, jax.random.key(0))
        >>> deployed = jd.Purified(lambda x: jnp.round(3 * x) / 3, brightness)
        >>> print(crafted.accuracy(brightness), "|", crafted.accuracy(deployed))
        0.0 % [0.0, 16.8], n = 20 | 100.0 % [83.2, 100.0], n = 20
    """
    check_attack(attack)
    if any(isinstance(s.loss, Targeted) and s.target is None for s in attack.stages):
        raise InputError(
            f"{attack.name} is targeted: it takes its targets from y, but here the true labels are "
            "needed there. Let the stage choose its target (Stage.target)"
        )
    make_room()
    images, labels = np.asarray(x), np.asarray(y)
    checks.check_images(images)
    checks.check_labels(labels, len(images))
    if attack.on_grid:
        checks.check_grid(images)
    images, labels = images.astype(np.float32), labels.astype(np.int32)
    radii = np.atleast_1d(np.asarray(eps, np.float32))
    checks.check_radii(radii, attack.ball, images[0].size)
    if radii.size not in (1, len(images)):
        raise InputError(f"{len(images)} images but {radii.size} radii: give one, or one per image")
    radii = np.broadcast_to(radii, len(images)).copy()
    key = one_key(key)
    rows = min(batch_size or _rows(), len(images))
    clean_correct(classifier, images[:rows], labels[:rows], key, rows)  # says what is wrong with it

    def attacked(index: np.ndarray) -> Images:
        keys = keys_at(key, jnp.asarray(index))
        return attack(keys, classifier, images[index], labels[index], radii[index])

    run = lambda rows: batched(attacked, len(images), rows)
    x_adv = with_memory(run, rows) if batch_size is None else run(rows)
    if attack.ball is None:
        valid = ((x_adv >= 0) & (x_adv <= 1)).reshape(len(x_adv), -1).all(-1)
    else:
        valid = inside64(attack.ball, images, x_adv, radii)
    return Crafted(
        x_adv=x_adv,
        x=images,
        y=labels,
        valid=np.asarray(valid),
        eps=radii,
        attack=attack.name,
        settings=attack.settings,
        norm="sigma" if attack.ball is None else attack.ball.name,
        key=key,
        crafted_on=name or _called(classifier),
    )


def _rows() -> int:
    return 128 if jax.default_backend() == "cpu" else 2048


@functools.partial(jax.jit, static_argnums=0)
def _wrong(static: Static, arrays: list[jax.Array], keys: Keys, x: Images, y: Labels) -> jax.Array:
    logits = apply(join(arrays, static), keys, x)
    return (logits.argmax(-1) != y) | jnp.isnan(logits).any(-1)


def _called(function: PyTree) -> str:
    """A classifier in words: its type, and those it is composed of."""
    if isinstance(function, Composite):
        fields = (getattr(function, field.name) for field in dataclasses.fields(function))
        parts = ", ".join(_called(part) for part in fields if callable(part))
        return f"{type(function).__name__}({parts})"
    name = getattr(function, "__name__", type(function).__name__)
    return "a function" if name == "<lambda>" else name
