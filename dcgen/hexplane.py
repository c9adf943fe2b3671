"""Six planes that factor a 4D volume, and the X-Y-T volume beside them. B batch, C channel, T frame, X/Y/Z cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from dcgen.config import HexShape

PLANES = ("xy", "xz", "yz", "tx", "ty", "tz")


@dataclass(frozen=True)
class HexPlane:
    """The planes by name, rows first: `tx` is [B, C, T, X]. `volume` is [B, C, T, X, Y] or None."""

    xy: Tensor
    xz: Tensor
    yz: Tensor
    tx: Tensor
    ty: Tensor
    tz: Tensor
    volume: Tensor | None = None

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of every part there is."""
        for name in (*PLANES, "volume"):
            part = getattr(self, name)
            if part is not None:
                yield name, part

    def map(self, change: Callable[[Tensor], Tensor]) -> HexPlane:
        return HexPlane(**{name: change(part) for name, part in self.items()})


def flatten(planes: HexPlane) -> Float[Tensor, "B D"]:
    """Every latent value of a chunk in one row: the state that samplers move."""
    return torch.cat([part.flatten(1) for _, part in planes.items()], dim=1)


def unflatten(values: Float[Tensor, "B D"], shape: HexShape) -> HexPlane:
    """The inverse of flatten."""
    sizes: dict[str, tuple[int, ...]] = dict(shape.planes)
    if shape.volume_channels:
        sizes["volume"] = shape.volume
    parts, start = {}, 0
    for name, size in sizes.items():
        stop = start + int(torch.Size(size).numel())
        parts[name] = values[:, start:stop].reshape(-1, *size)
        start = stop
    if start != values.shape[1]:
        raise ValueError(f"latents hold {values.shape[1]} values, the model's shape needs {start}")
    return HexPlane(**parts)


# Padded rollout (DynamicCity, sec. 4.2): one image of X+T+Z rows and Y+Z+T columns.
#   row block X:  xy      xz   (tx)^T
#   row block T:  ty      tz   0
#   row block Z:  (yz)^T  0    0
def roll(planes: HexPlane) -> Float[Tensor, "B C R S"]:
    """The six planes as one image; neighbours in the image share an axis. Padding is zero."""
    p = planes
    t, z = p.tz.shape[2], p.tz.shape[3]

    def zeros(rows: int, columns: int) -> Tensor:
        return p.xy.new_zeros(p.xy.shape[0], p.xy.shape[1], rows, columns)

    top = torch.cat([p.xy, p.xz, p.tx.transpose(2, 3)], dim=3)
    middle = torch.cat([p.ty, p.tz, zeros(t, t)], dim=3)
    bottom = torch.cat([p.yz.transpose(2, 3), zeros(z, z), zeros(z, t)], dim=3)
    return torch.cat([top, middle, bottom], dim=2)


def unroll(image: Float[Tensor, "B C R S"], shape: HexShape) -> HexPlane:
    """The exact inverse of roll for the six planes; what lies in the padding is dropped."""
    t, x, y, z = shape.t, shape.x, shape.y, shape.z
    top, middle, bottom = image[:, :, :x], image[:, :, x : x + t], image[:, :, x + t :]
    return HexPlane(
        xy=top[..., :y],
        xz=top[..., y : y + z],
        tx=top[..., y + z :].transpose(2, 3),
        ty=middle[..., :y],
        tz=middle[..., y : y + z],
        yz=bottom[..., :y].transpose(2, 3),
    )


def patchify(image: Float[Tensor, "B C R S"], patch: int) -> Float[Tensor, "B N D"]:
    return rearrange(image, "b c (r p) (s q) -> b (r s) (p q c)", p=patch, q=patch)


def unpatchify(tokens: Float[Tensor, "B N D"], rows: int, patch: int) -> Float[Tensor, "B C R S"]:
    return rearrange(tokens, "b (r s) (p q c) -> b c (r p) (s q)", r=rows // patch, p=patch, q=patch)


@dataclass(frozen=True)
class TokenMap:
    """Where each token of the padded rollout comes from. N tokens that are not padding."""

    keep: Tensor  # [N] index into the patches of the whole image
    plane: Tensor  # [N] index into PLANES, len(PLANES) for the volume
    position: Tensor  # [N, 4] centre t, x, y, z in plane cells, 0 on the axes a plane lacks


def plane_tokens(shape: HexShape, patch: int) -> TokenMap:
    """The tokens of the six planes: made by rolling coordinate maps, so it cannot disagree with roll."""

    def axis_map(rows: int, columns: int, values: Tensor, by_row: bool) -> Tensor:
        return (values[:, None] if by_row else values[None]).expand(rows, columns)

    sizes = {"t": shape.t, "x": shape.x, "y": shape.y, "z": shape.z}
    coded = {}
    for index, name in enumerate(PLANES):
        rows, columns = sizes[name[0]], sizes[name[1]]
        channels = [torch.full((rows, columns), index + 1.0)]
        for axis in "txyz":
            cells = torch.arange(sizes[axis]) + 0.5
            here = axis in name
            channels.append(axis_map(rows, columns, cells, name[0] == axis) if here else torch.zeros(rows, columns))
        coded[name] = torch.stack(channels)[None]
    patches = patchify(roll(HexPlane(**coded)), patch).unflatten(-1, (-1, 5)).mean(dim=2)[0]
    keep = torch.nonzero(patches[:, 0] > 0)[:, 0]
    plane = patches[keep, 0].round().long() - 1
    return TokenMap(keep, plane, patches[keep, 1:])


def volume_tokens(shape: HexShape, patch: tuple[int, int, int]) -> TokenMap:
    """The tokens of the X-Y-T volume, positions in the cells of the planes so that both share one scale."""
    _, t, x, y = shape.volume
    axes = []
    for cells, size, target in zip((t, x, y), patch, (shape.t, shape.x, shape.y), strict=True):
        axes.append((torch.arange(cells // size) + 0.5) * size * target / cells)
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)
    position = torch.cat([grid, torch.zeros(len(grid), 1)], dim=1)
    return TokenMap(torch.arange(len(grid)), torch.full((len(grid),), len(PLANES)), position)
