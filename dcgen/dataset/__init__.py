"""Clips on disk: what a data set is, its parts, and how they are read for training."""
