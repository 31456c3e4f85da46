"""Compiled programs: kept on disk, counted, and of which a process can hold only so many."""

import contextlib
import dataclasses
import gc
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax

_MAPS, _MOST = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
# A large network's program takes some thousands at once.
_SHARE = 0.5


def use_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that a second run starts at once.

    The commands and experiment scripts call it; call it once in a script of your own, before
    anything is compiled. Programs go to ``JAX_COMPILATION_CACHE_DIR`` or ``$JAXDEFENSE_CACHE/xla``
    (``~/.cache/jaxdefense/xla``).

    Example:
        >>> import jaxdefense as jd
        >>> jd.use_compilation_cache()
    """
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        base = os.environ.get("JAXDEFENSE_CACHE") or Path.home() / ".cache" / "jaxdefense"
        jax.config.update("jax_compilation_cache_dir", str(Path(base) / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


@dataclasses.dataclass
class Compilations:
    """Programs that were compiled, and the seconds of tracing, lowering and compiling them.

    Seconds of several threads are added up.
    """

    programs: int = 0
    seconds: float = 0.0


_running: list[Compilations] = []


def _heard(event: str, duration_secs: float, **_: str | int) -> None:
    for found in tuple(_running):
        if event.startswith("/jax/core/compile/"):
            found.seconds += duration_secs
            found.programs += event.endswith("backend_compile_duration")


jax.monitoring.register_event_duration_secs_listener(_heard)


@contextlib.contextmanager
def compilations() -> Iterator[Compilations]:
    """Counts what is compiled inside, in whatever thread.

    Example:
        >>> with compilations() as found:
        ...     _ = jax.jit(lambda x: x + 17)(1.0)
        >>> found.programs, found.seconds > 0
        (1, True)
    """
    found = Compilations()
    _running.append(found)
    try:
        yield found
    finally:
        _running[:] = [other for other in _running if other is not found]


def make_room() -> bool:
    """Frees compiled programs before the process runs out of memory maps; says whether it did.

    Every program of XLA's CPU backend holds some maps. Linux allows a process 65,530, and beyond
    that compiling aborts it, after an hour of attacking one network after another. What is needed
    again is compiled again, or comes from the compilation cache. Does nothing on other systems.
    """
    try:
        held, most = _MAPS.read_bytes().count(b"\n"), int(_MOST.read_text())
    except OSError:
        return False
    if held < _SHARE * most:
        return False
    jax.clear_caches()
    gc.collect()
    return True
