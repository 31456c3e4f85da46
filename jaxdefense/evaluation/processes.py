"""Several processes, on one host or many, that share a sweep through a folder.

Each works on its own blocks of examples (`blocks`), so no process ever waits for another's numbers
inside a program; JAX only tells them which of how many they are. What has to be noticed is that one
has died: the others would wait for its blocks for ever.
"""

import atexit
import contextlib
import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from jaxdefense.errors import InputError

_BEAT = 0.5
# Until a process must have shown that it is there; where nothing made all begin at once.
_STARTUP, _LATE = 180.0, 1800.0
# Seconds without a sign of life.
_PATIENCE = 20.0


def join(
    folder: str | os.PathLike[str],
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    patience: float = _PATIENCE,
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
    base = Path(folder) / "processes"
    base.mkdir(parents=True, exist_ok=True)
    # All processes of this run leave the line below later than each has passed this one.
    since = _now(base)
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (RuntimeError, ValueError) as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        raise InputError(
            f"the processes cannot find each other: {first}. Start each with "
            "--share.coordinator HOST:PORT (of process 0), --share.processes N and --share.process "
            "0 to N-1, or under SLURM with --share.launcher"
        ) from None
    global _watch
    _watch = Watch(base, jax.process_index(), jax.process_count(), since, patience)
    _watch.start()


def watch(folder: str | os.PathLike[str]) -> None:
    """Watches the others where `jax.distributed` was started without `join`; may be called often.

    Args:
        folder: as in `join`.
    """
    global _watch
    if _watch is None:
        base = Path(folder) / "processes"
        try:
            base.mkdir(parents=True, exist_ok=True)
            since = _now(base)
        except OSError as error:
            raise InputError(
                f"{folder} cannot be written ({error.strerror or error}), through which processes "
                "share their work: name a folder that all can write"
            ) from None
        own, count = jax.process_index(), jax.process_count()
        _watch = Watch(base, own, count, since, _PATIENCE, _LATE)
        _watch.start()
        atexit.register(_watch.finish)


def leave() -> None:
    """Says that this process has finished, so that the others do not take it for dead."""
    if _watch is not None:
        _watch.finish()
    jax.distributed.shutdown()


class Watch(threading.Thread):
    """Shows that this process is alive and at what, and ends it when another has died.

    Args:
        base: folder of the signs, one file for each process.
        own, count: which process this is, of how many.
        since: time of the file system (ns) before which signs are those of an earlier run.
        patience, startup: seconds without a sign of life, at all and at first.
    """

    def __init__(
        self,
        base: Path,
        own: int,
        count: int,
        since: int,
        patience: float,
        startup: float = _STARTUP,
    ):
        super().__init__(daemon=True)
        self.base, self.own, self.count, self.since = base, own, count, since
        self.patience, self.startup = patience, startup
        self.task = ""
        self._over, self._told = threading.Event(), threading.Event()

    def run(self) -> None:
        """Until the process ends."""
        begun = time.monotonic()
        others = [other for other in range(self.count) if other != self.own]
        seen = dict.fromkeys(others, ("", begun + self.startup))
        for beat in itertools.count():
            over = self._over.is_set()
            self._sign("done" if over else f"{beat} {self.task}")
            if over:
                self._told.set()
            for other, (text, deadline) in seen.items():
                now = self.sign_of(other)
                if now == "done":
                    seen[other] = (now, float("inf"))
                elif now != text:
                    seen[other] = (now, time.monotonic() + self.patience)
                elif time.monotonic() > deadline:
                    self.end(other)
            time.sleep(_BEAT)

    def finish(self) -> None:
        """Returns when the others can see that this process is done."""
        self._over.set()
        self._told.wait(10)

    def sign_of(self, process: int) -> str:
        """What a process has shown last in this run; empty where nothing."""
        path = self.base / f"{process}"
        try:
            return path.read_text() if path.stat().st_mtime_ns >= self.since else ""
        except OSError:
            return ""

    def elsewhere(self, process: int) -> bool:
        """Whether a process is done, or works on something else than this one."""
        state, _, task = self.sign_of(process).partition(" ")
        return state == "done" or bool(task and self.task and task != self.task)

    def end(self, other: int) -> None:
        """Ends this process, from whichever thread."""
        print(
            f"error: process {other} of {self.count} gave no sign of life for {self.patience:g} s "
            f"(at first {self.startup:g} s): it has died. Finished blocks are kept in "
            f"{self.base.parent}; run the same command "
            "again, with any number of processes, to go on from them",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)

    def _sign(self, text: str) -> None:
        temporary = self.base / f"{self.own}.tmp"
        with contextlib.suppress(OSError):  # a file system that fails once may not fail again
            temporary.write_text(text)
            os.replace(temporary, self.base / f"{self.own}")


_watch: Watch | None = None


@contextlib.contextmanager
def working_on(task: str) -> Iterator[Callable[[int], bool]]:
    """While this process works on a task: whether another is done or works on another one."""
    if _watch is None:
        yield lambda process: False
        return
    _watch.task = task
    try:
        yield _watch.elsewhere
    finally:
        _watch.task = ""


def _now(base: Path) -> int:
    """The file system's time, in ns."""
    with tempfile.NamedTemporaryFile(dir=base) as file:
        return os.stat(file.name).st_mtime_ns
