"""Image to features: backbones and necks."""
