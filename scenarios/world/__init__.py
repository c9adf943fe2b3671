"""Labelled ground truth from a map: a procedural town, traffic on it, and clips cut from both on the fly.

roads -> town/ -> tile; traffic/ -> tracks; both make a World (store.py); a World -> cut/ and sensor/ -> clips.
"""
