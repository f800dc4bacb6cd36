"""ImageNet: folders, class names, synsets."""
