"""A scenario file's meaning as Conditions, chunk by chunk. T frame, C channel, X/Y/Z voxel axes."""

from __future__ import annotations

from scenarios.chunk import anchor_of, chunk_conditions, command_of

__all__ = ["anchor_of", "chunk_conditions", "command_of"]
