"""Planners of other stacks in dcgen, and dcgen's scenes as their environments. None of the stacks is imported."""

from bridges.adapters.carla import from_carla_agent
from bridges.adapters.commonroad import from_commonroad
from bridges.adapters.gym_env import as_gym_env
from bridges.adapters.gym_policy import from_gym_policy
from bridges.adapters.navsim import from_navsim
from bridges.adapters.nuplan import from_nuplan
from bridges.adapters.planner_class import planner_class
from bridges.adapters.waymax import from_waymax_actor

__all__ = [
    "as_gym_env",
    "from_carla_agent",
    "from_commonroad",
    "from_gym_policy",
    "from_navsim",
    "from_nuplan",
    "from_waymax_actor",
    "planner_class",
]
