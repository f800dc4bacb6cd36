"""onnxruntime-web, which runs networks in a browser: the files of one version, checked by digests.

They come from the npm registry when a folder is exported, through npm where it is installed (with
its settings: registry, proxy, cache), else from the registry that NPM_CONFIG_REGISTRY names, or
from a folder that holds them already.

Source: https://onnxruntime.ai/docs/tutorials/web/; the WebAssembly build alone.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from pathlib import Path
from typing import Final

from rsseg.common.messages import first_line

VERSION: Final = "1.30.0"
NAME: Final = f"onnxruntime-web@{VERSION}"
MODULE: Final = "ort.wasm.bundle.min.mjs"
WASM: Final = "ort-wasm-simd-threaded.wasm"
_SETTING: Final = "NPM_CONFIG_REGISTRY"
# Of the tarball, as `npm view onnxruntime-web@VERSION dist.integrity` prints it.
INTEGRITY: Final = (
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02V"
    "b7QmRMDs1SigqR4CXAfKYQ=="
)
DIGESTS: Final = {  # sha256 of its files
    MODULE: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
_SECONDS: Final = 300.0  # for 33 MB
_OFFLINE: Final = (
    f"offline, give --runtime-files DIR with {MODULE} and {WASM} of {NAME}, such as "
    "node_modules/onnxruntime-web/dist or a folder that was exported before"
)


def runtime_files(folder: Path | None = None) -> dict[str, bytes]:
    """Return the content of the files by their names.

    Args:
        folder: Holds them; None fetches them from the npm registry.

    Raises:
        ValueError: If they cannot be had, or are others than those of the version; says what to
            do.
    """
    return _fetched() if folder is None else _of_folder(folder)


def _of_folder(folder: Path) -> dict[str, bytes]:
    files = {}
    for name, digest in DIGESTS.items():
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            raise ValueError(
                f"there is no {name} in {folder} ({error.strerror}); expected the folder dist of "
                f"{NAME}, as `npm pack {NAME}` brings it"
            ) from error
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise ValueError(f"{folder / name} is not that of {NAME}; give the folder dist of it")
    return files


def _fetched() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as temporary:
        npm = shutil.which("npm")
        path = _by_npm(npm, Path(temporary)) if npm else _by_http(Path(temporary))
        content = path.read_bytes()
        digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
        if f"sha512-{digest}" != INTEGRITY:
            raise ValueError(
                f"what the registry gave as {NAME} has the digest sha512-{digest[:12]}..., "
                f"expected {INTEGRITY[:19]}...; do not use it; {_OFFLINE}"
            )
        with tarfile.open(path) as tarball:
            return {name: _member(tarball, f"package/dist/{name}") for name in DIGESTS}


def _member(tarball: tarfile.TarFile, name: str) -> bytes:
    member = tarball.extractfile(name)
    assert member is not None  # The digest is that of a tarball that has it.
    return member.read()


def _by_npm(npm: str, folder: Path) -> Path:
    command = [npm, "pack", NAME, "--silent", "--prefer-offline"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"`npm pack {NAME}` failed ({first_line(error)}); {_OFFLINE}") from error
    paths = sorted(folder.glob("*.tgz"))
    if done.returncode or not paths:
        lines = [*done.stderr.strip().splitlines(), f"status {done.returncode}"]
        raise ValueError(f"`npm pack {NAME}` failed ({lines[0]}); {_OFFLINE}")
    return paths[0]


def _by_http(folder: Path) -> Path:
    settings = {name.lower(): value for name, value in os.environ.items()}
    registry = settings.get(_SETTING.lower(), "").rstrip("/")
    if not registry:
        raise ValueError(
            f"there is no npm to fetch {NAME} with: install it, or set {_SETTING} to the address "
            f"of a registry; {_OFFLINE}"
        )
    address = f"{registry}/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
    path = folder / "onnxruntime-web.tgz"
    try:
        if not address.startswith(("https://", "http://")):
            raise ValueError("a registry has an address of http or https")
        with urllib.request.urlopen(address, timeout=_SECONDS) as answer, path.open("wb") as out:
            shutil.copyfileobj(answer, out)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot fetch {address} ({first_line(error)}); {_OFFLINE}") from error
    return path
