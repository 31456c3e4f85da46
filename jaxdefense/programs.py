"""Compiled programs, of which a process can hold only so many."""

import gc
from pathlib import Path

import jax

_MAPS, _MOST = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
# A large network's program takes some thousands at once.
_SHARE = 0.5


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
