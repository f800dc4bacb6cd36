"""One ONNX file of all resolutions: written, checked and run."""
