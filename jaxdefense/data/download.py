"""Fetching a file when, and only when, the user asked for it."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from jaxdefense.data.catalog import Download, Entry
from jaxdefense.errors import DataError

TIMEOUT = 10.0  # seconds without an answer or a byte
CHUNK = 1 << 20


def download(entry: Entry, folder: Path, timeout: float = TIMEOUT) -> None:
    """Fetch the files of ``entry`` that ``folder`` does not hold yet.

    Args:
        entry: the data set.
        folder: where the files go; made if need be.
        timeout: seconds of silence after which an address is given up.

    Raises:
        DataError: there is nothing to download, no address answers, the file does not match its
            checksum, or the folder cannot be written. No partial file is left behind.
    """
    if not entry.downloads:
        raise DataError(f"{entry.title} cannot be downloaded without an account: {entry.obtain}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the download folder {folder}: {error}") from error
    for item in entry.downloads:
        if not (folder / item.file).is_file():
            _fetch(item, folder / item.file, timeout)


def _fetch(item: Download, target: Path, timeout: float) -> None:
    failures = []
    for url in item.urls:
        try:
            _fetch_from(url, item.sha256, target, timeout)
        except (urllib.error.URLError, HTTPException, TimeoutError, OSError) as error:
            reason = getattr(error, "reason", None) or error
            failures.append(f"{url}: {reason}")
        else:
            return
    raise DataError(
        f"cannot download {item.file}: {'; '.join(failures)}. "
        f"Check the network, or put the file into {target.parent} yourself"
    )


def _fetch_from(url: str, sha256: str, target: Path, timeout: float) -> None:
    digest = hashlib.sha256()
    handle, part = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(url, timeout=timeout) as got:
            while chunk := got.read(CHUNK):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != sha256:
            raise OSError(
                f"the file that came has SHA-256 {digest.hexdigest()}, expected {sha256} "
                "(cut short, or not the original)"
            )
        os.replace(part, target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
