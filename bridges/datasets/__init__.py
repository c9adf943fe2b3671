"""Public sets of semantic occupancy as dcgen's clips: CarlaSC, Occ3D, UniOcc, SemanticKITTI and SSCBench."""

from bridges.datasets.public_set import FORMATS, PublicSet, count_clips, open_set, read_clips
from bridges.datasets.sequence import ReadOptions

__all__ = ["FORMATS", "PublicSet", "ReadOptions", "count_clips", "open_set", "read_clips"]
