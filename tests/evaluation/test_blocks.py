"""Blocks on disk: a killed sweep goes on, processes share the work, damage is measured anew."""

import random

import jax
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense import attacks
from jaxdefense.errors import InputError
from jaxdefense.evaluation import blocks
from jaxdefense.evaluation.grid import Measured
from tests.conftest import reference

KEY = jax.random.key(0)
RADII = np.linspace(0.03, 0.2, 5)
ATTACK = attacks.pgd(jd.linf, 6)


def subject(count=70):
    net, x, y, _ = reference("standard")
    weights = net.args[0]
    return jd.Frozen(Reference(), weights), x[:count], y[:count]


class Reference:
    """As a module, so that it can be told from another."""

    def apply(self, weights, x):
        return reference("standard")[0].func(weights, x)

    def __eq__(self, other):
        return isinstance(other, Reference)

    def __hash__(self):
        return 1

    def __repr__(self):
        return "Reference()"


def swept(folder, method="nested", **options):
    net, x, y = subject()
    return jd.sweep(ATTACK, net, x, y, RADII, KEY, method=method, resume=folder, **options)


def same(one, other):
    np.testing.assert_array_equal(one.smallest_radius, other.smallest_radius)
    np.testing.assert_array_equal(one.robust_accuracy, other.robust_accuracy)
    np.testing.assert_array_equal(one.broken_by, other.broken_by)
    np.testing.assert_allclose(one.distance, other.distance, rtol=1e-5)


@pytest.mark.parametrize("method", ["nested", "grid"])
def test_in_blocks_is_as_in_one_piece(tmp_path, method):
    whole, parts = swept(None, method), swept(tmp_path, method)
    same(whole, parts)
    assert whole.evaluations == parts.evaluations
    assert len(list(tmp_path.rglob("*.npz"))) == 3  # of 32 slots


def test_a_killed_sweep_measures_only_what_is_missing(tmp_path, monkeypatch):
    whole = swept(tmp_path)
    first, second, third = sorted(tmp_path.rglob("*.npz"))
    second.unlink()
    third.write_bytes(third.read_bytes()[:-200])  # damaged
    read, measured = blocks._read, []
    monkeypatch.setattr(blocks, "_write", lambda path, found: measured.append(path.name))
    assert read(first) is not None
    same(swept(tmp_path), whole)
    assert measured == [second.name, third.name]


def test_other_settings_are_other_blocks(tmp_path):
    swept(tmp_path)
    swept(tmp_path, "grid")
    net, x, y = subject()
    jd.sweep(attacks.pgd(jd.linf, 7), net, x, y, RADII, KEY, resume=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_each_process_does_its_share_and_has_the_whole(tmp_path):
    done = []

    def run(mask):
        done.append(np.flatnonzero(mask).tolist())
        broken = np.arange(7)[:, None] % 2 == 0
        return Measured(broken & mask[:, None], 1.0 * broken, 0 * broken, int(mask.sum()), 0, 1, 0)

    share = lambda process: blocks.in_blocks(run, 7, 2, tmp_path, "id", process, 2)
    # The second process has finished its blocks when the first comes to look for them.
    for start in (2, 6):
        part = run((np.arange(7) >= start) & (np.arange(7) < start + 2))
        rows = slice(start, start + 2)
        part = part._replace(broken=part.broken[rows], norms=part.norms[rows], by=part.by[rows])
        (tmp_path / "id").mkdir(exist_ok=True)
        blocks._write(tmp_path / "id" / f"{start:08d}-2.npz", part)
    done.clear()
    found = share(0)
    assert done == [[0, 1], [4, 5]]
    np.testing.assert_array_equal(found.broken[:, 0], np.arange(7) % 2 == 0)
    assert found.gradients == 7
    done.clear()
    same_again = share(1)
    assert done == []
    np.testing.assert_array_equal(same_again.broken, found.broken)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be kept"):
        swept(tmp_path / "file")


def test_functions_that_cannot_be_told_apart_are_refused(tmp_path):
    net, x, y = subject()
    host = lambda x: jax.pure_callback(np.asarray, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
    with pytest.raises(InputError, match="plain function"):
        jd.sweep(ATTACK, lambda x: net(host(x)), x, y, RADII, KEY, resume=tmp_path)


def test_a_plain_function_goes_on_where_it_was(tmp_path, monkeypatch):
    net, x, y = subject()
    first = jd.sweep(ATTACK, lambda x: net(x), x, y, RADII, KEY, resume=tmp_path)
    monkeypatch.setattr(blocks, "_write", lambda *_: pytest.fail("measured again"))
    again = jd.sweep(ATTACK, lambda images: net(images), x, y, RADII, KEY, resume=tmp_path)
    np.testing.assert_array_equal(again.smallest_radius, first.smallest_radius)


def test_a_flipped_bit_in_a_block_costs_that_block_and_no_more(tmp_path):
    first = swept(tmp_path)
    path = sorted(tmp_path.rglob("*.npz"))[0]
    good, rng = path.read_bytes(), random.Random(0)
    for _ in range(300):
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        found = blocks._read(path)
        if found is not None:  # a bit that says nothing: a date, a name that is there twice
            path.write_bytes(good)
            for one, other in zip(found, blocks._read(path), strict=True):
                np.testing.assert_array_equal(one, other)
    path.write_bytes(bad)
    same(swept(tmp_path), first)
