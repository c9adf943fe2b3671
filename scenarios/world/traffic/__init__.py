"""Road users: SUMO simulates them in a process of its own, and what is unsound is left out (untangle.py)."""
