"""Tests of the data package never touch the user's cache, data folder or TFDS folder."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDEFENSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds-default"))
    monkeypatch.delenv("JAXDEFENSE_DATA", raising=False)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A connection to anywhere but this machine is a failure, not a wait."""
    import socket

    real = socket.socket.connect

    def connect(self, address):
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "localhost", "::1"):
            raise AssertionError(f"the test reached for the network: {address}")
        return real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


def _real_folder() -> Path | None:
    named = os.environ.get("JAXDEFENSE_DATA")
    folder = Path(named) if named else Path(__file__).parents[3] / "shared" / "data"
    return folder if folder.is_dir() else None


REAL = _real_folder()  # read before `isolated` hides the variable


@pytest.fixture
def real_data() -> Path:
    """A folder of real data, or a skip."""
    if REAL is None:
        pytest.skip("no folder of real data: set JAXDEFENSE_DATA")
    return REAL
