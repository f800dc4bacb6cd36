"""From an image file to views at several resolutions, and back to a picture."""
