"""Programs are freed before there are too many, and only then."""

import jax
import jax.numpy as jnp
import pytest

from jaxdefense import programs


@pytest.mark.parametrize(("held", "freed"), [(10, False), (60, True)])
def test_programs_are_freed_when_half_of_the_maps_are_taken(monkeypatch, tmp_path, held, freed):
    (tmp_path / "maps").write_text("line\n" * held)
    (tmp_path / "most").write_text("100\n")
    monkeypatch.setattr(programs, "_MAPS", tmp_path / "maps")
    monkeypatch.setattr(programs, "_MOST", tmp_path / "most")
    cleared = []
    monkeypatch.setattr(jax, "clear_caches", lambda: cleared.append(True))
    assert programs.make_room() is freed
    assert bool(cleared) is freed


def test_what_was_freed_is_compiled_again():
    traced = []
    double = jax.jit(lambda x: traced.append(1) or 2 * x)
    assert (float(double(1.0)), float(double(2.0)), len(traced)) == (2.0, 4.0, 1)
    jax.clear_caches()
    assert (float(double(jnp.float32(3.0))), len(traced)) == (6.0, 2)


def test_elsewhere_there_is_nothing_to_free(monkeypatch, tmp_path):
    monkeypatch.setattr(programs, "_MAPS", tmp_path / "none")
    assert programs.make_room() is False
