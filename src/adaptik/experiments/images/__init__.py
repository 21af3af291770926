"""Classes of images as source and target."""
