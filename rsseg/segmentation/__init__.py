"""The segmentation head: RefineNet and every other segmenter, and how they are judged."""

from rsseg.segmentation.evaluate import SegmentationEvaluator
from rsseg.segmentation.model import build_segmenter
from rsseg.segmentation.refinenet import RefineNet

__all__ = ["RefineNet", "SegmentationEvaluator", "build_segmenter"]
