"""Five views of one random crop of a JPEG file, on one core: from the file to what is handed on.

The peer is the published pipeline: Pillow decodes and crops, resizes the crop once for each
resolution, and makes normalised floats of it. Ours hands on uint8, which the device normalises.
The crops are the same for all. "difference" is the mean absolute difference to Pillow's views, in
grey levels. Without --images the script draws its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image as Pictures
from torch import Tensor
from torchvision.transforms import functional, v2

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Case, Work
from benchmarks.runner import make_parser, run
from datasets.image_views import TrainingImages
from datasets.imagenet.labels import is_image
from datasets.imagenet.reader import ImageFiles
from datasets.samples import Draw
from rsseg.classifiers.config import CropConfig
from rsseg.images.preprocessing import Preprocessing
from rsseg.images.reading import Decoder

RESOLUTIONS = (224, 192, 160, 128, 96)
CROP = CropConfig()

# Drawn images: noise of every coarseness, the coarser the stronger, as photographs have it.
_SIZE = (400, 500)
_COARSENESS = (128, 64, 32, 16, 8, 4, 2, 1)
_QUALITY = 95

PathViews = Callable[[Path, int], list[Tensor]]


def draw_image(path: Path, seed: int) -> None:
    """Draw a JPEG of 500 x 400 pixels and about 100 kB."""
    draw = np.random.default_rng(seed)
    height, width = _SIZE
    image = np.full((height, width, 3), 128, np.float32)
    for pixels in _COARSENESS:
        shape = (height // pixels + 1, width // pixels + 1)
        # Photographs differ more in brightness than in colour.
        noise = draw.normal(size=(*shape, 1)) + 0.4 * draw.normal(size=(*shape, 3))
        strength = 7 * pixels**0.4
        image += strength * cv2.resize(noise.astype(np.float32), (width, height))
    Pictures.fromarray(image.clip(0, 255).astype(np.uint8)).save(path, quality=_QUALITY)


def crop_by_pillow(path: Path, seed: int, count: int) -> tuple[Pictures.Image, list[bool]]:
    """Decode a file and crop it as the seed decides, and tell which of the views are mirrored."""
    picture = Pictures.open(path).convert("RGB")
    # The order of the draws is that of `RandomCrops`, so that the views can be compared.
    torch.default_generator.manual_seed(seed)
    mirrored = (torch.rand(count) < CROP.flip).tolist()
    box = v2.RandomResizedCrop(1, scale=CROP.area, ratio=CROP.aspect).make_params([picture])
    left, top = box["left"], box["top"]
    cut = picture.crop((left, top, left + box["width"], top + box["height"]))
    return cut, mirrored[:1] * count if CROP.flips == "single" else mirrored


def _views_by_pillow(path: Path, seed: int, resolutions: Sequence[int]) -> list[Pictures.Image]:
    cut, mirrored = crop_by_pillow(path, seed, len(resolutions))
    views = [cut.resize((r, r), Pictures.Resampling.BILINEAR) for r in resolutions]
    return [
        view.transpose(Pictures.Transpose.FLIP_LEFT_RIGHT) if mirror else view
        for view, mirror in zip(views, mirrored, strict=True)
    ]


def published_views(path: Path, seed: int, resolutions: Sequence[int]) -> list[Tensor]:
    """Return the views as normalised floats, (3, r, r) for each resolution r."""
    normal = Preprocessing()
    return [
        functional.normalize(functional.to_tensor(view), normal.mean, normal.std)
        for view in _views_by_pillow(path, seed, resolutions)
    ]


def pillow_views(path: Path, seed: int, resolutions: Sequence[int]) -> list[Tensor]:
    """Return the same views as uint8."""
    return [functional.pil_to_tensor(view) for view in _views_by_pillow(path, seed, resolutions)]


def published_work(paths: Sequence[Path], views: PathViews) -> Work:
    """Prepare one pass over the files with functions of Pillow."""

    def call() -> None:
        for seed, path in enumerate(paths):
            views(path, seed)

    return Work(call, units=len(paths))


def our_views(
    paths: Sequence[Path], resolutions: Sequence[int], decoder: Decoder
) -> TrainingImages:
    """Return the data set that a run trains with, over these files."""
    names = np.array([str(path.name).encode() for path in paths])
    labels = np.zeros(len(paths), dtype=np.int64)
    images = ImageFiles(paths[0].parent, names, labels, ("any",), decoder=decoder)
    return TrainingImages(images, resolutions, CROP)


def our_work(paths: Sequence[Path], resolutions: Sequence[int], decoder: Decoder) -> Work:
    """Prepare one pass over the files with our data set."""
    images = our_views(paths, resolutions, decoder)

    def call() -> None:
        for index in range(len(paths)):
            images[Draw(index, index)]

    notes = {"difference": difference(paths, resolutions, decoder)}
    return Work(call, units=len(paths), notes=notes)


def difference(paths: Sequence[Path], resolutions: Sequence[int], decoder: Decoder) -> float:
    """Return the mean absolute difference of our views to those of Pillow, in grey levels."""
    images, differences = our_views(paths, resolutions, decoder), []
    for index, path in enumerate(paths):
        views = images[Draw(index, index)].views
        for own, other in zip(views, pillow_views(path, index, resolutions), strict=True):
            assert isinstance(own, Tensor)
            differences.append((own.float() - other.float()).abs().mean())
    return torch.stack(differences).mean().item()


def find_images(folder: Path, count: int) -> list[Path]:
    """List so many images of a folder, spread over it.

    Raises:
        ValueError: If there is none.
        OSError: If there is no such folder.
    """
    paths = sorted(path for path in folder.iterdir() if is_image(path.name))
    if not paths:
        raise ValueError(f"{folder} holds no images; give --images a folder with JPEG files")
    chosen = np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)
    return [paths[index] for index in chosen]


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the one case of this benchmark, and remove what was drawn for it."""
    count = options.count or (64 if options.short else 256)
    resolutions = tuple(options.resolutions)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.images or Path(temporary)
        if options.images is None:
            for seed in range(count):
                draw_image(folder / f"{seed:04d}.jpg", seed)
        paths = find_images(folder, count)
        kilobytes = sum(path.stat().st_size for path in paths) / len(paths) / 1000
        sizes = {
            "resolutions": list(resolutions),
            "images": len(paths),
            "kB": round(kilobytes),
            "drawn": options.images is None,
        }
        by_pillow = partial(pillow_views, resolutions=resolutions)
        published = partial(published_views, resolutions=resolutions)
        variants = {
            "published": partial(published_work, paths, published),
            "Pillow, uint8": partial(published_work, paths, by_pillow),
            "ours, decoder pillow": partial(our_work, paths, resolutions, "pillow"),
            "ours, decoder fast": partial(our_work, paths, resolutions, "fast"),
        }
        yield Case("five views", variants, sizes, memory=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = make_parser("loader", str(__doc__), threads=1, device="cpu")
    parser.add_argument("--images", type=Path, help="folder with JPEG files")
    parser.add_argument("--count", type=int, help="images (default: 256, short: 64)")
    parser.add_argument("--resolutions", type=int, nargs="+", default=RESOLUTIONS)
    return run(__file__, parser, cases, arguments)


if __name__ == "__main__":
    sys.exit(main())
