"""Run the command `rsseg`: python -m rsseg."""

import sys

from rsseg.cli.main import main

sys.exit(main())
