"""Image to features: backbones and necks. Importing any of them tells timm the names of Strip-MLP."""

from smidgen.features import strip_mlp as strip_mlp
