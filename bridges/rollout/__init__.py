"""Closed loop: a planner drives in a scene, which is cut again wherever the ego goes."""
