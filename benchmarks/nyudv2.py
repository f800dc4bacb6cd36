"""One training sample of NYU Depth V2, three views and a label map, from each form of the data.

The peer is the official file's form: --mat names the file itself, else the script draws rooms
into a file of the same layout, compressed as the official one is (each frame in a chunk of its own;
the official chunks may be slower).
The prepared folder is read as a training reads it, and by its image files alone. "read" is the
reading, "sample" the whole sample with its random changes. The files are in the system's cache
after the first round.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import h5py

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Case, Work
from benchmarks.runner import make_parser, run
from datasets.nyudv2.prepare import prepare
from datasets.nyudv2.reader import open_nyudv2
from datasets.rooms.room import TEST_EVERY, write_rooms
from datasets.samples import Draw, Reader
from datasets.views import TrainingViews
from rsseg.images.preprocessing import Preprocessing
from rsseg.segmentation.config import AugmentationConfig

RESOLUTIONS = (352, 224, 96)

Open = Callable[[], Reader]


def compress(plain: Path, packed: Path) -> None:
    """Copy a file in the official layout, its images and labels compressed as the official ones."""
    with h5py.File(plain) as source, h5py.File(packed, "w") as target:
        for name, item in source.items():
            if name in ("images", "labels"):
                settings = {"chunks": (1, *item.shape[1:]), "compression": "gzip"}
                target.create_dataset(name, data=item[:], **settings)
            else:
                source.copy(item, target, name)
        target.attrs.update(source.attrs)


def forms(mat: Path, folder: Path) -> dict[str, Open]:
    """Return, for each form of the data, what opens its training samples. The first is the peer.

    Args:
        mat: The official file, or one of its layout.
        folder: Empty folder for the other forms.
    """
    prepare(mat, folder / "prepared")
    return {
        ".mat file": partial(open_nyudv2, mat, "train"),
        "image files": partial(open_nyudv2, folder / "prepared", "train", packed=False),
        "prepared folder": partial(open_nyudv2, folder / "prepared", "train"),
    }


def read_work(open_reader: Open, count: int) -> Work:
    """Prepare the reading of so many samples."""
    reader = open_reader()
    count = min(count, len(reader))

    def call() -> None:
        for index in range(count):
            reader[index]

    return Work(call, units=count)


def sample_work(open_reader: Open, count: int, resolutions: Sequence[int]) -> Work:
    """Prepare so many training samples, augmented."""
    reader = open_reader()
    views = TrainingViews(reader, resolutions, Preprocessing(), AugmentationConfig())
    count = min(count, len(reader))

    def call() -> None:
        for index in range(count):
            views[Draw(index, index)]

    return Work(call, units=count)


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield reading alone and whole samples, and remove what was drawn for them."""
    count = options.count or (24 if options.short else 48)
    resolutions = tuple(options.resolutions)
    height, width = options.size
    sizes = {"resolutions": list(resolutions), "samples": count, "drawn": options.mat is None}
    with tempfile.TemporaryDirectory() as temporary:
        mat = options.mat or Path(temporary) / "rooms.mat"
        if options.mat is None:
            # Every fifth room is for testing, and one must be.
            plain = mat.with_name("plain.mat")
            write_rooms(plain, max(TEST_EVERY, math.ceil(count * 5 / 4)), size=(height, width))
            compress(plain, mat)
            sizes["size"] = [height, width]
        readers = forms(mat, Path(temporary))
        read = {name: partial(read_work, opened, count) for name, opened in readers.items()}
        yield Case("read", read, sizes, memory=False)
        sample = {
            name: partial(sample_work, opened, count, resolutions)
            for name, opened in readers.items()
        }
        yield Case("sample", sample, sizes, memory=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = make_parser("nyudv2", str(__doc__), threads=1, device="cpu")
    parser.add_argument("--mat", type=Path, help="nyu_depth_v2_labeled.mat")
    parser.add_argument("--count", type=int, help="samples (default: 48, short: 24)")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), help="of drawn rooms")
    parser.add_argument("--resolutions", type=int, nargs="+", default=RESOLUTIONS)
    return run(__file__, parser, cases, arguments)


if __name__ == "__main__":
    sys.exit(main())
