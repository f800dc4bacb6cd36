"""Tests of rsseg/runtime/onnx."""
