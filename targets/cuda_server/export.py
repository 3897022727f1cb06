"""The model's own files, unchanged."""

from images.inside.transformers_serve.snapshot import export

__all__ = ["export"]
