"""An episode's marks by published rules: NAVSIM v2's score, and the CARLA leaderboard's. docs/scoring.md."""

from bridges.scoring.collisions import Contact
from bridges.scoring.scores import Scores, score

__all__ = ["Contact", "Scores", "score"]
