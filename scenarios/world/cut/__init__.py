"""Labelled clips cut from a world: which ones (candidates.py), how (recipe.py, clips.py), and the kernels."""
