"""Scenes in the layouts of published benchmarks, and as numpy, PLY and glTF: one module a format."""
