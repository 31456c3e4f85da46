"""Checkpoints that notice damage: Orbax step folders with a checksum and the configuration.

Orbax writes each step into a folder of its own and renames it when complete, so a process killed
while saving leaves the earlier steps intact. It does not notice a flipped byte and casts another
dtype in silence; therefore every step carries a sha256 of its content, the configuration it
belongs to, and the names, shapes and dtypes of its arrays, and all of it is checked on the way in.
"""

import contextlib
import gc
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp

from jaxdefense.errors import CheckpointError, InputError
from jaxdefense.typing import PyTree

FORMAT = 1


class Checkpoints:
    """The newest few states of one training, in one folder.

    Args:
        folder: where to keep them; made if it is not there.
        config: whatever decides the outcome (model, data, optimizer, seed, ...), as plain JSON
            values. A state is only ever restored under the configuration it was saved under.
        keep: how many steps to keep; more than one, so that a damaged one can be done without.

    Raises:
        CheckpointError: the folder cannot be made or written.
        InputError: ``keep`` below 1, or a configuration that is not JSON.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> state = {"weights": jnp.ones(3)}
        >>> with Checkpoints(tempfile.mkdtemp(), {"model": "lenet5"}) as checkpoints:
        ...     checkpoints.save(10, state)
        ...     checkpoints.steps(), float(checkpoints.restore(state)["weights"].sum())
        ([10], 3.0)
    """

    def __init__(self, folder: str | os.PathLike[str], config: Mapping[str, Any], keep: int = 3):
        if keep < 1:
            raise InputError(f"keep is {keep}, but at least one checkpoint has to be kept")
        self.folder = Path(folder).absolute()
        self._config = _plain(config)
        self._damaged: set[int] = set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _probe(self.folder)
            with _quiet():
                self._orbax = ocp.training.Checkpointer(
                    self.folder,
                    preservation_policy=ocp.training.preservation_policies.LatestN(keep),
                    cleanup_tmp_directories=True,
                )
        except OSError as error:
            raise CheckpointError(
                f"cannot write checkpoints to {self.folder}: {error.strerror or error}; make the "
                "folder writable, or choose another output folder"
            ) from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the folder."""
        with _quiet():
            self._orbax.close()

    def steps(self) -> list[int]:
        """The steps that are kept, ascending, damaged ones included."""
        return [checkpoint.step for checkpoint in self._orbax.checkpoints]

    def save(self, step: int, state: PyTree) -> None:
        """Keeps a state; when this returns, it survives the death of the process.

        Args:
            step: its number; a state already kept under this number is replaced.
            state: a pytree of arrays.

        Raises:
            CheckpointError: the state cannot be written, for example because the disk is full.
        """
        arrays = _flatten(state)
        seal: dict[str, Any] = {
            "format": FORMAT,
            "config": self._config,
            "arrays": _describe(arrays),
            "content": _digest(arrays),
        }
        seal["seal"] = _seal(seal)
        try:
            # Orbax waits for minutes when it cannot make the folder of a step.
            _probe(self.folder, sum(array.nbytes for array in arrays.values()))
            with _quiet():
                # A damaged step would otherwise stay the newest and take the place of a good one.
                for damaged in self._damaged.intersection(self.steps()) - {step}:
                    self._orbax.delete(damaged)
                replace = step in self.steps()
                self._orbax.save(step, arrays, custom_metadata=seal, force=True, overwrite=replace)
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise CheckpointError(
                f"cannot save step {step} to {self.folder}: {reason}; free some space or "
                "choose another output folder. Earlier checkpoints are intact, and the run goes on "
                "from them when it is started again"
            ) from error
        self._damaged.clear()

    def restore(self, template: PyTree) -> PyTree | None:
        """The newest good state.

        A damaged checkpoint is passed over with a warning.

        Args:
            template: a state of the same structure, shapes and dtypes; its values do not matter.

        Returns:
            The state, or None when nothing was ever saved here.

        Raises:
            CheckpointError: the checkpoints belong to another configuration or to other shapes or
                dtypes, or all of them are damaged.
        """
        problems: list[str] = []
        for step in reversed(self.steps()):
            try:
                state = self._load(step, template)
            except _Damaged as damage:
                problems.append(f"step {step}: {damage}")
                self._damaged.add(step)
                continue
            if problems:
                warnings.warn(
                    f"damaged checkpoint in {self.folder} ({'; '.join(problems)}); "
                    f"going on from step {step}, the newest good one",
                    stacklevel=2,
                )
            return state
        if problems:
            raise CheckpointError(
                f"every checkpoint in {self.folder} is damaged ({'; '.join(problems)}): delete the "
                "folder to start anew, or choose another output folder"
            )
        return None

    def _load(self, step: int, template: PyTree) -> PyTree:
        wanted = _flatten(template)
        seal = self._read_seal(step)
        if seal["format"] != FORMAT:
            raise CheckpointError(
                f"the checkpoints in {self.folder} have format {seal['format']}, but this version "
                f"reads format {FORMAT}: use the version that wrote them, or delete the folder"
            )
        self._check_same("configuration", seal["config"], self._config)
        self._check_same("arrays", seal["arrays"], _describe(wanted))
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = {
            name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=device)
            for name, array in wanted.items()
        }
        arrays = _read(lambda: self._orbax.load(step, abstract))
        if _digest(arrays) != seal["content"]:
            raise _Damaged("its content does not match its checksum")
        return _unflatten(arrays, template)

    def _read_seal(self, step: int) -> dict[str, Any]:
        seal = _read(lambda: self._orbax.metadata(step).custom_metadata)
        if not isinstance(seal, dict) or seal.get("seal") != _seal(seal):
            raise _Damaged("its metadata does not match its checksum")
        return seal

    def _check_same(self, what: str, saved: dict[str, Any], given: dict[str, Any]) -> None:
        differing = [
            f"{name} was {_show(saved, name)}, is {_show(given, name)}"
            for name in sorted(saved.keys() | given.keys())
            if _show(saved, name) != _show(given, name)
        ]
        if differing:
            shown = "; ".join(differing[:8]) + ("; ..." if len(differing) > 8 else "")
            raise CheckpointError(
                f"the checkpoints in {self.folder} were saved with another {what}: {shown}. "
                "Choose another output folder, or delete this one to start anew"
            )


class _Damaged(Exception):
    """One step cannot be trusted; an earlier one may do."""


def _read(call: Callable[[], Any]) -> Any:
    """What Orbax reads; damaged files make it raise nearly anything, bare `Exception` included."""
    with _quiet():
        # What it says then is about the innards of the format, so it is not passed on.
        with contextlib.suppress(Exception):
            return call()
        # Left-overs of the failed read complain on stderr when they are collected: do it now.
        gc.collect()
    raise _Damaged("its files are damaged, incomplete or not readable")


def _probe(folder: Path, size: int = 0) -> None:
    """Raises an `OSError` unless ``size`` bytes can be written to a folder."""
    with tempfile.TemporaryFile(dir=folder):
        free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(f"{size} bytes are needed and {free} are free")


def _flatten(tree: PyTree) -> dict[str, Any]:
    """Arrays by their path, as saved: the containers around them need not be known to Orbax."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): _data(leaf) for path, leaf in leaves
    }


def _unflatten(arrays: dict[str, Any], template: PyTree) -> PyTree:
    # Orbax may return the dict in another order than it was given.
    ordered = [arrays[name] for name in _flatten(template)]
    leaves, structure = jax.tree.flatten(template)
    return jax.tree.unflatten(structure, map(_like, ordered, leaves))


def _data(leaf: Any) -> Any:
    if _is_key(leaf):
        return jax.random.key_data(leaf)
    return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)


def _like(array: Any, leaf: Any) -> Any:
    if _is_key(leaf):
        return jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf))
    return array


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _describe(arrays: dict[str, Any]) -> dict[str, str]:
    return {name: f"{array.dtype}{list(array.shape)}" for name, array in arrays.items()}


def _digest(arrays: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name}|{arrays[name].dtype}|{arrays[name].shape}|".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _seal(metadata: dict[str, Any]) -> str:
    rest = {name: value for name, value in metadata.items() if name != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as it comes back from JSON, nested names joined by dots."""

    def scalar(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        raise TypeError(f"{value!r} is no JSON value")

    def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
        for name, item in value.items():
            if isinstance(item, dict) and item:
                yield from flat(item, f"{prefix}{name}.")
            else:
                yield prefix + name, item

    try:
        return dict(flat(json.loads(json.dumps(dict(config), default=scalar))))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the configuration of a checkpoint must be plain JSON values: {error}"
        ) from error


def _show(entries: dict[str, Any], name: str) -> str:
    return json.dumps(entries[name]) if name in entries else "absent"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax from printing tracebacks of failures that are reported as errors here."""
    disabled, hook = logging.root.manager.disable, sys.unraisablehook
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            yield
    finally:
        logging.disable(disabled)
        sys.unraisablehook = hook
