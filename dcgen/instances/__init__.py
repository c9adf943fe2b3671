"""Who is who in a scene, and where to: ids of all that can move, their tracks and the flow of every voxel."""

from dcgen.instances.scene_motion import backward_mps, with_motion

__all__ = ["backward_mps", "with_motion"]
