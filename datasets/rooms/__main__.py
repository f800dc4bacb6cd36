"""Draw rooms: python -m datasets.rooms PATH [--count N] [--seed N] [--height H] [--width W]."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from datasets.rooms.room import is_written, write_rooms


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw rooms from the command line."""
    parser = argparse.ArgumentParser(prog="python -m datasets.rooms.room", description=main.__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    given = parser.parse_args(arguments)
    size = (given.height, given.width)
    try:
        there = is_written(given.path, given.count, seed=given.seed, size=size)
        write_rooms(given.path, given.count, seed=given.seed, size=size)
    except (FileExistsError, ValueError) as problem:
        parser.error(str(problem))
    except OSError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing is kept, run the same command again", file=sys.stderr)
        return 130
    verb = "already holds" if there else "now holds"
    rooms = f"{given.count} rooms of {given.width} x {given.height} pixels, seed {given.seed}"
    print(f"{given.path} {verb} {rooms}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
