"""Threads: the rows of a sweep shared out, errors and interruptions handed on."""

import itertools
import time

import jax
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense.evaluation import threads
from jaxdefense.evaluation.grid import Measured
from tests.evaluation.test_blocks import ATTACK, KEY, RADII, same, subject


def found(mask):
    broken = mask[:, None] & (np.arange(len(mask)) % 2 == 0)[:, None]
    return Measured(broken, 1.0 * broken, broken - 1, int(mask.sum()), 1, 2, 0)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_make_up_the_whole(parts):
    some, seen, told = np.arange(11) != 4, [], []

    def run(mask, report):
        seen.append(np.flatnonzero(mask).tolist())
        report(int(mask.sum()))
        return found(mask)

    whole = threads.share(run, some, told.append, parts)
    expected = found(some)
    for name in ("broken", "norms", "by"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(expected, name))
    assert (whole.gradients, whole.forwards, whole.attempts) == (10, parts, 2 * parts)
    assert sorted(itertools.chain(*seen)) == np.flatnonzero(some).tolist()
    assert sum(told) == 10
    assert len(seen) == parts


def test_every_thread_gets_as_many_of_the_hard_rows():
    hardness, seen = np.array([9.0, 1, 8, 1, 7, 0, 6, 0]), []

    def run(mask, report):
        seen.append(hardness[mask])
        return found(mask)

    threads.share(run, np.ones(8, bool), lambda done: None, 2, hardness)
    assert [int((some > 5).sum()) for some in seen] == [2, 2]


def test_an_error_ends_the_other_threads_and_is_raised():
    def run(mask, report):
        if mask[0]:
            raise ValueError("broken classifier")
        for _ in range(2000):
            report(0)
            time.sleep(0.005)
        raise AssertionError("nobody stopped this thread")

    before = time.monotonic()
    with pytest.raises(ValueError, match="broken classifier"):
        threads.share(run, np.ones(4, bool), lambda done: None, 2)
    assert time.monotonic() - before < 5


def test_few_rows_and_several_devices_are_one_thread(monkeypatch):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda process: range(64), raising=False)
    assert threads.count(threads.LEAST * 2 - 1) == 1
    assert threads.count(threads.LEAST * 3) == 3
    assert threads.count(10_000) == threads.MOST
    monkeypatch.setattr(threads, "local_mesh", lambda: "several devices")
    assert threads.count(10_000) == 1


def test_what_calls_the_host_is_called_by_one_thread_at_a_time(monkeypatch):
    """Two such calls wait for each other where XLA has two threads."""
    net, x, y = subject()
    seen, share = [], threads.share
    monkeypatch.setattr(threads, "count", lambda rows: 2)
    monkeypatch.setattr(threads, "share", lambda *a: seen.append(a[3]) or share(*a))

    def rounded(x):
        like = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(np.round, like, x, vmap_method="sequential")

    whole = jd.Purified(rounded, net)
    y = np.asarray(whole(x).argmax(-1))
    noise = jd.attacks.gaussian(0.5, jd.linf)
    around = jd.Purified(jd.surrogates.bpda(rounded), net)
    jd.sweep(noise, whole, x, y, RADII, KEY)
    jd.sweep(ATTACK, net, x, y, RADII, KEY, around)
    jd.sweep(ATTACK, net, x, y, RADII, KEY)
    assert seen == [1, 1, 2]


def test_settings_that_hold_in_one_thread_only_keep_the_work_there():
    seen = []

    def run(mask, report):
        seen.append((threads._settings(), threads._precision()))
        return found(mask)

    share = lambda: threads.share(run, np.ones(8, bool), lambda done: None, 2)
    with jax.numpy_dtype_promotion("strict"):
        here = (threads._settings(), threads._precision())
        share()
    assert seen == [here]
    seen.clear()
    with jax.default_matmul_precision("highest"):  # travels along
        here = (threads._settings(), threads._precision())
        share()
    assert seen == [here] * 2
    assert here[1] == "highest"


@pytest.mark.parametrize("method", ["nested", "grid"])
def test_a_sweep_is_the_same_by_any_number_of_threads(method, monkeypatch):
    net, x, y = subject(40)
    curves = []
    for parts in (1, 2):
        monkeypatch.setattr(threads, "count", lambda rows, parts=parts: parts)
        curves.append(jd.sweep(ATTACK, net, x, y, RADII, KEY, method=method))
    same(*curves)
    assert curves[0].evaluations == curves[1].evaluations
