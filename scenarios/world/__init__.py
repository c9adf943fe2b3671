"""Labelled ground truth from a map: a procedural town, traffic on it, and clips cut from both on the fly.

roads -> town (lots, furniture, terrain) -> tile; traffic -> tracks; tile + tracks -> clips (voxelize, clips).
"""
