"""What holds for every test: no example of hypothesis is failed for the time that it takes."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("rsseg", deadline=None)
settings.load_profile("rsseg")
