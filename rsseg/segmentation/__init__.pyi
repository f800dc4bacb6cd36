"""The public names and their types; `__init__.py` imports each when it is first used."""

from rsseg.segmentation.evaluate import SegmentationEvaluator as SegmentationEvaluator
from rsseg.segmentation.model import build_segmenter as build_segmenter
from rsseg.segmentation.refinenet import RefineNet as RefineNet

__all__: list[str]
