"""From a folder of images to a configuration: `python -m datasets.init FOLDER --out my.yaml`."""
