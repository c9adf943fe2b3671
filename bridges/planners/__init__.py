"""Reference planners: one that only follows its lane, one that looks at occupancy."""

from bridges.planners.lane_following import LaneFollowing
from bridges.planners.sampling import OccupancySampling

__all__ = ["LaneFollowing", "OccupancySampling"]
