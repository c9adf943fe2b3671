"""The static town: what a style and a seed grow on a road map, kept as columns of 0.2 m (tile.py)."""
