"""Train or evaluate a resolution switchable classifier; see README.md for the commands."""

from __future__ import annotations

import sys

from classification.task import CLASSIFICATION
from datasets.classification import test_images, training_batches
from rsseg.cli.train import Script

SCRIPT = Script(CLASSIFICATION, training_batches, test_images, str(__doc__))
main = SCRIPT.main

if __name__ == "__main__":
    sys.exit(main())
