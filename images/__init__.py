"""How an image is made: one module a step, joined by `build.py`."""
