"""The alternative to Expansion & Squeeze: an MLP is asked for the class of one voxel at a time.

B batch, C channel, T frame, X/Y/Z voxel axes, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from dcgen.config import ModelConfig
from dcgen.hexplane import HexPlane
from dcgen.types import NUM_CLASSES

HIDDEN_A_SQUEEZE = 4  # 256 of the paper beside its squeeze head of 64
CHUNK = 1 << 16  # voxels at a time where no gradient is kept


class QueryDecoder(nn.Module):
    """The six planes interpolated at a voxel's centre, multiplied, and an MLP of four layers (DynamicCity, ablations).

    Nothing of a voxel's neighbours enters but through the planes.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        vae, hidden = config.vae, HIDDEN_A_SQUEEZE * config.vae.squeeze_width
        self.frames, self.grid = config.frames, config.grid.shape
        self.mlp = nn.Sequential(
            nn.Linear(vae.channels, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, NUM_CLASSES),
        )

    def forward(self, planes: HexPlane, frames: Int[Tensor, " T"]) -> Float[Tensor, "B T X Y Z K"]:
        t, (x, y, z) = self.frames, self.grid
        xy, xz, yz = (_at_centres(p, s) for p, s in ((planes.xy, (x, y)), (planes.xz, (x, z)), (planes.yz, (y, z))))
        in_time = ((planes.tx, (t, x)), (planes.ty, (t, y)), (planes.tz, (t, z)))
        tx, ty, tz = (_at_centres(plane, size)[:, frames] for plane, size in in_time)
        space = xy[:, :, :, None] * xz[:, :, None] * yz[:, None]  # B X Y Z C

        def ask(moment: slice, rows: slice) -> Tensor:
            time = tx[:, moment, rows, None] * ty[:, moment, None]  # B T X Y C
            return self.mlp(space[:, None, rows] * (time[:, :, :, :, None] * tz[:, moment, None, None]))

        if torch.is_grad_enabled():
            return ask(slice(None), slice(None))
        wide = max(1, CHUNK // (len(xy) * y * z))
        moments = [slice(n, n + 1) for n in range(len(frames))]
        parts = [[ask(moment, slice(row, row + wide)) for row in range(0, x, wide)] for moment in moments]
        return torch.cat([torch.cat(rows, dim=2) for rows in parts], dim=1)

    def labels(self, planes: HexPlane, frames: Int[Tensor, " T"]) -> UInt8[Tensor, "B T X Y Z"]:
        """The likeliest class of each voxel, frame by frame."""
        return torch.cat([self(planes, frame).argmax(-1).to(torch.uint8) for frame in frames.split(1)], dim=1)


def _at_centres(plane: Float[Tensor, "B C R S"], size: tuple[int, int]) -> Float[Tensor, "B R2 S2 C"]:
    """A plane, bilinear between its cells' centres, at the centres of `size` voxels; constant beyond the outermost.

    One is added to it, as in the Hadamard decoder: a product of six planes that start near zero is nothing.
    """
    return 1 + F.interpolate(plane, size=size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
