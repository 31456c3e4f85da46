"""The host's side of a training: history, best validation loss, whether it is done."""

import dataclasses
import json
from typing import Any

import numpy as np

from jaxdefense.errors import InputError

_BYTES_FIXED, _BYTES_PER_EPOCH = 2048, 1024


@dataclasses.dataclass
class Journal:
    """What `fit` notes between epochs and needs again when it resumes.

    Attributes:
        identity: what makes this training this one: key, data, batch size, epochs.
        history: one row of numbers per finished epoch.
        best_loss: the lowest validation loss so far.
        stale: epochs since then.
        done: whether there is nothing left to train.
        stopped_early: whether patience ran out.
    """

    identity: dict[str, Any]
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best_loss: float = float("inf")
    stale: int = 0
    done: bool = False
    stopped_early: bool = False

    def encode(self, epochs: int) -> np.ndarray:
        """The journal as uint8, so that a checkpoint is one tree of arrays of known shapes.

        The length depends only on the number of epochs. JSON keeps every float exactly.

        Raises:
            InputError: the rows of the history are too long.
        """
        text = json.dumps(dataclasses.asdict(self)).encode()
        size = _BYTES_FIXED + _BYTES_PER_EPOCH * epochs
        if len(text) > size:
            raise InputError(
                f"the training history takes {len(text)} bytes, more than the {size} kept for "
                f"{epochs} epochs: let validate return fewer or shorter-named numbers"
            )
        return np.frombuffer(text.ljust(size), np.uint8).copy()

    @classmethod
    def decode(cls, code: Any) -> "Journal":
        """The journal that `encode` wrote."""
        return cls(**json.loads(np.asarray(code).tobytes()))
