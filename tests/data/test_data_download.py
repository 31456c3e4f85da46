"""Downloads: only when asked, checked, whole or not at all, and quick to give up."""

import dataclasses
import hashlib
import http.server
import threading
import time

import numpy as np
import pytest
from data_layouts import write_idx

from jaxdefense.data import catalog, download, load
from jaxdefense.data.catalog import ENTRIES
from jaxdefense.errors import DataError


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder from this machine and remembers what was asked for."""

    def __init__(self, folder):
        self.asked = []
        self.short = set()
        self.release = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.rsplit("/", 1)[-1]
                self.server.asked.append(self.path)
                if self.path.startswith("/silent/"):
                    self.server.release.wait(5)
                    return
                path = folder / name
                if self.path.startswith("/gone/") or not path.is_file():
                    self.send_error(404)
                    return
                data = path.read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[:100] if name in self.server.short else data)

            def log_message(self, *args):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def served(tmp_path):
    folder = tmp_path / "served"
    arrays = write_idx(folder)
    server = Server(folder)
    server.folder, server.arrays = folder, arrays
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


def point_at(monkeypatch, served, *mirrors):
    items = tuple(
        dataclasses.replace(
            item,
            urls=tuple(f"{served.url}/{mirror}/{item.file}" for mirror in mirrors),
            sha256=hashlib.sha256((served.folder / item.file).read_bytes()).hexdigest(),
        )
        for item in ENTRIES["mnist"].downloads
    )
    monkeypatch.setitem(
        catalog.ENTRIES, "mnist", dataclasses.replace(ENTRIES["mnist"], downloads=items)
    )


def test_only_when_asked_then_kept(tmp_path, monkeypatch, served):
    point_at(monkeypatch, served, "a")
    (tmp_path / "d").mkdir()
    with pytest.raises(DataError, match="--download"):
        load("mnist", data_dir=tmp_path / "d")
    assert served.asked == []
    data = load("mnist", data_dir=tmp_path / "d", download=True)
    np.testing.assert_array_equal(data.x_train[..., 0], served.arrays["train"][0])
    assert len(served.asked) == 4
    assert len(list((tmp_path / "d" / "mnist").iterdir())) == 4
    load("mnist", data_dir=tmp_path / "d", download=True)
    assert len(served.asked) == 4


def test_without_a_data_folder_files_go_below_the_cache(tmp_path, monkeypatch, served):
    point_at(monkeypatch, served, "a")
    load("mnist", download=True)
    assert len(list((tmp_path / "cache" / "downloads" / "mnist").iterdir())) == 4
    assert len(load("mnist").y_train) == 20


def test_the_next_mirror(monkeypatch, served):
    point_at(monkeypatch, served, "gone", "b")
    assert len(load("mnist", download=True).y_train) == 20
    assert len(served.asked) == 8


def test_a_wrong_file_is_refused_and_removed(tmp_path, monkeypatch, served):
    point_at(monkeypatch, served, "a")
    (served.folder / "train-labels-idx1-ubyte.gz").write_bytes(b"<html>please log in</html>")
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: .*SHA-256") as error:
        load("mnist", download=True)
    folder = tmp_path / "cache" / "downloads" / "mnist"
    assert str(folder) in str(error.value)
    assert [path.name for path in folder.iterdir()] == ["train-images-idx3-ubyte.gz"]


def test_a_connection_cut_short(tmp_path, monkeypatch, served):
    point_at(monkeypatch, served, "a")
    served.short.add("train-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match=r"cannot download train-images-idx3-ubyte\.gz"):
        load("mnist", download=True)
    assert not list((tmp_path / "cache" / "downloads" / "mnist").iterdir())


def test_nobody_answers(monkeypatch, served):
    point_at(monkeypatch, served, "gone")
    with pytest.raises(DataError, match="Not Found"):
        load("mnist", download=True)


def test_a_silent_server_is_given_up_after_seconds(tmp_path, monkeypatch, served):
    point_at(monkeypatch, served, "silent")
    start = time.perf_counter()
    with pytest.raises(DataError, match="timed out"):
        download.download(catalog.ENTRIES["mnist"], tmp_path / "t", timeout=0.2)
    assert time.perf_counter() - start < 3


def test_what_cannot_be_downloaded_says_where_it_is():
    with pytest.raises(DataError, match=r"koryakinp/fingers from Kaggle"):
        load("fingers", download=True)


def test_an_unwritable_folder(tmp_path, monkeypatch, served):
    point_at(monkeypatch, served, "a")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mnist").write_text("a file in the way")
    with pytest.raises(DataError, match="cannot make the download folder"):
        load("mnist", data_dir=tmp_path / "d", download=True)


def test_every_download_has_a_checksum_and_an_address():
    for entry in ENTRIES.values():
        for item in entry.downloads:
            assert len(bytes.fromhex(item.sha256)) == 32
            assert item.urls
            assert all(url.startswith("http") and url.endswith(item.file) for url in item.urls)
