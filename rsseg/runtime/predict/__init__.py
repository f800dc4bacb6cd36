"""From image files and videos to files of answers."""
