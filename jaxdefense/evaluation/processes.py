"""Several processes, on one host or many, that share a sweep through a folder.

Each works on its own blocks of examples (`blocks`), so no process ever waits for another's numbers
inside a program; JAX only tells them which of how many they are. What has to be noticed is that one
has died: the others would wait for its blocks for ever.
"""

import os
import sys
import threading
import time
from pathlib import Path

import jax

from jaxdefense.errors import InputError

_BEAT = 0.5
# Until a process must have shown that it is there.
_STARTUP = 180.0


def join(
    folder: str | os.PathLike[str],
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    patience: float = 20.0,
) -> None:
    """Makes this process one of several; call it before anything else of JAX.

    From then on a process that dies ends the others within `patience` seconds, with an error that
    says so. Finished blocks stay in the folder: the same command, with any number of processes,
    goes on from them.

    Args:
        folder: that all processes can write; the `resume` of their sweeps.
        coordinator: ``host:port`` of process 0; found by itself under SLURM and other launchers
            that `jax.distributed` knows, if None.
        processes, process: how many there are and which this is; likewise.
        patience: seconds without a sign of life.

    Raises:
        InputError: processes that cannot find each other.
    """
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (RuntimeError, ValueError) as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        raise InputError(
            f"the processes cannot find each other: {first}. Start each with --coordinator "
            "HOST:PORT (of process 0), --processes N and --process 0 to N-1, or under SLURM"
        ) from None
    base = Path(folder) / "processes"
    base.mkdir(parents=True, exist_ok=True)
    threading.Thread(target=_watch, args=(base, patience), daemon=True).start()


def leave(folder: str | os.PathLike[str]) -> None:
    """Says that this process has finished, so that the others do not take it for dead."""
    _sign(Path(folder) / "processes", "done")
    jax.distributed.shutdown()


def _sign(base: Path, text: str) -> None:
    path = base / f"{jax.process_index()}"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(f"{os.getpid()} {text}")
    os.replace(temporary, path)


def _watch(base: Path, patience: float) -> None:
    own, others = jax.process_index(), range(jax.process_count())
    seen = {other: ("", time.monotonic() + _STARTUP) for other in others if other != own}
    # Signs of an earlier run are not signs of life.
    stale = {other: _read(base, other) for other in seen}
    beat = 0
    while True:
        if not _read(base, own).endswith("done"):
            _sign(base, str(beat))
        for other, (text, deadline) in seen.items():
            now = _read(base, other)
            if now.endswith("done") and now != stale[other]:
                seen[other] = (now, float("inf"))
            elif now not in (text, stale[other]):
                seen[other] = (now, time.monotonic() + patience)
            elif time.monotonic() > deadline:
                print(
                    f"error: process {other} of {len(others)} gave no sign of life for "
                    f"{patience:g} s: it has died. Finished blocks are kept in {base.parent}; run "
                    "the same command again, with any number of processes, to go on from them",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(1)
        beat += 1
        time.sleep(_BEAT)


def _read(base: Path, process: int) -> str:
    try:
        return (base / f"{process}").read_text()
    except OSError:
        return ""
