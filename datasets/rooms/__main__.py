"""Draw rooms: python -m datasets.rooms PATH [--count N] [--seed N] [--height H] [--width W]."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from datasets.rooms.room import is_written, write_rooms


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw rooms from the command line."""
    parser = argparse.ArgumentParser(prog="python -m datasets.rooms", description=main.__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    options = parser.parse_args(arguments)
    size = (options.height, options.width)
    try:
        there = is_written(options.path, options.count, seed=options.seed, size=size)
        write_rooms(options.path, options.count, seed=options.seed, size=size)
    except (FileExistsError, ValueError) as error:
        parser.error(str(error))
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing is written, run the same command again", file=sys.stderr)
        return 130
    verb = "already holds" if there else "now holds"
    rooms = (
        f"{options.count} rooms of {options.width} x {options.height} pixels, seed {options.seed}"
    )
    print(f"{options.path} {verb} {rooms}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
