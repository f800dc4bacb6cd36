"""Fetch the official file: goes on where it broke off, and checks size and hash at the end.

What arrives is kept as NAME.part; the final name only ever belongs to the right file.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from tqdm import tqdm

URL: Final = "http://horatio.cs.nyu.edu/mit/silberman/nyu_depth_v2/nyu_depth_v2_labeled.mat"
SIZE: Final = 2_972_037_809
SHA256: Final = "2d724b0c0ab358aa1ce5df855e5bd14a2279ab7202efe22f32a30d612dcb86aa"
_BLOCK: Final = 1 << 20  # bytes that are read at once
_PATIENCE: Final = 60  # seconds without a byte


def download(target: Path, url: str = URL, *, size: int = SIZE, sha256: str = SHA256) -> Path:
    """Fetch a file, unless it is there already.

    Args:
        target: The file to write; without suffix, or existing, a folder for a file named as in
            the URL.
        url: Where the file lies.
        size: Its size in bytes.
        sha256: Its hash, hexadecimal.

    Returns:
        The path of the file.

    Raises:
        ValueError: If a file, old or new, is not the expected one.
        OSError: If disk space is lacking or the connection fails; what has arrived is kept.
    """
    path = target if target.suffix and not target.is_dir() else target / url.rsplit("/", 1)[-1]
    if path.exists():
        _check(path, size, sha256, remedy="move it away and start again")
        print(f"{path} is there already, size and hash are right")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    have = part.stat().st_size if part.exists() else 0
    if have > size:
        part.unlink()
        have = 0
    _check_space(part, size - have)
    if have < size:
        _fetch(part, url, size)
    try:
        _check(part, size, sha256, remedy="it is removed; give another --url")
    except ValueError:
        part.unlink()
        raise
    part.rename(path)
    print(f"{path}: {size} bytes, hash right")
    return path


def _check_space(path: Path, size: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise OSError(
            f"{path.parent}: {free / 1e9:.2f} GB free, {size / 1e9:.2f} GB needed; make room or "
            "choose another target"
        )


def _fetch(part: Path, url: str, size: int) -> None:
    """Append to a part file what it lacks."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
            if response.status != http.client.PARTIAL_CONTENT:
                have = 0  # the server cannot go on in the middle and sends all of it
            coming = int(response.headers.get("Content-Length", size - have))
            if have + coming != size:
                raise ValueError(
                    f"{url}: offers {have + coming} bytes, expected {size}; give the right --url"
                )
            _append(response, part, have, size)
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"{url}: {error}; give another --url") from error
    except (OSError, http.client.HTTPException) as error:
        arrived = part.stat().st_size if part.exists() else 0
        raise OSError(
            f"{url}: {error}; {arrived} of {size} bytes are in {part}, run again to go on"
        ) from error


def _append(response: http.client.HTTPResponse, part: Path, have: int, size: int) -> None:
    bar = tqdm(total=size, initial=have, unit="B", unit_scale=True, desc=part.stem)
    with part.open("ab") as stream, bar:
        stream.truncate(have)
        while block := response.read(_BLOCK):
            stream.write(block)
            bar.update(len(block))
        if stream.tell() < size:
            raise ConnectionError("the connection broke off")


def _check(path: Path, size: int, sha256: str, *, remedy: str) -> None:
    """Raise ValueError if a file has another size or hash; `remedy` ends the message."""
    actual = path.stat().st_size
    if actual != size:
        raise ValueError(f"{path}: has {actual} bytes, expected {size}; {remedy}")
    digest = hashlib.sha256()
    bar = tqdm(total=size, unit="B", unit_scale=True, desc="checking")
    with path.open("rb") as stream, bar:
        while block := stream.read(_BLOCK):
            digest.update(block)
            bar.update(len(block))
    if digest.hexdigest() != sha256.lower():
        raise ValueError(
            f"{path}: sha256 is {digest.hexdigest()}, expected {sha256}, so it is another file "
            f"or damaged; {remedy}"
        )
