"""A planner of one's own: it keeps to the route and brakes for whatever the occupancy shows ahead.

dcgen rollout SCENE.h5 --planner examples/planner.py:Careful
"""

from __future__ import annotations

import numpy as np

from bridges.planner import Control, Observation, Task
from dcgen.types import SURFACES, UNKNOWN, Semantics

FREE_TO_DRIVE = [int(Semantics.FREE), UNKNOWN, *map(int, SURFACES)]


class Careful:
    """Pure pursuit of the route; no faster than it can stop before the next solid voxel."""

    def reset(self, task: Task) -> None:
        self.limit_mps = task.speed_limit_mps

    def plan(self, observation: Observation) -> Control:
        route, speed = observation.route, observation.ego.speed_mps
        x, y, _ = route[min(len(route) - 1, 4 + int(speed))]
        steering = np.arctan2(2 * 2.8 * y, x**2 + y**2)
        room = self.free_ahead_m(observation) - 6.0
        wanted = min(self.limit_mps, np.sqrt(2 * 3.0 * max(room, 0.0)))
        return Control(float(np.clip((wanted - speed) / 0.5, -6.0, 1.5)), float(np.clip(steering, -0.6, 0.6)))

    def free_ahead_m(self, observation: Observation) -> float:
        """Metres along the route to the first solid voxel between half a metre and two above the ground."""
        grid = observation.grid
        for s, (x, y, _) in enumerate(observation.route):
            for z in (0.8, 1.4):
                cell = np.floor((np.array([x, y, z]) - grid.origin_m) / grid.voxel_m).astype(int)
                inside = (cell >= 0).all() and (cell < grid.shape).all()
                if s > 2 and inside and observation.occupancy[-1][tuple(cell)] not in FREE_TO_DRIVE:
                    return float(s)
        return 40.0

    def close(self) -> None:
        pass
