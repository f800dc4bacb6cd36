"""The public names and their types; `__init__.py` imports each when it is first used."""

from rsseg.runtime.predictor import Predictor as Predictor

__all__: list[str]
