"""The program: read every layout and compare it with the truth."""

from __future__ import annotations

import sys

from benchmarks.layouts.labels import main

if __name__ == "__main__":
    sys.exit(main())
