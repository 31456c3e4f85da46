"""Every example in a public docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import jax
import pytest

import jaxdefense

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(jaxdefense.__path__, "jaxdefense.")
    if ".assets" not in name
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXDEFENSE_CACHE", str(tmp_path))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    module = importlib.import_module(name)
    with jax.numpy_rank_promotion("allow"):
        failed, _ = doctest.testmod(module, optionflags=flags)
    assert failed == 0
