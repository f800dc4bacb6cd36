"""Train or evaluate a resolution switchable segmenter; see README.md for the commands."""

from __future__ import annotations

import sys

from datasets.segmentation import TestSamples, training_batches
from rsseg.cli.train import Script
from rsseg.segmentation.task import SEGMENTATION

SCRIPT = Script(SEGMENTATION, training_batches, TestSamples, str(__doc__))
main = SCRIPT.main

if __name__ == "__main__":
    sys.exit(main())
