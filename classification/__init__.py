"""Image classification: its settings, loss, metrics; trained by `train_cls.py`."""
