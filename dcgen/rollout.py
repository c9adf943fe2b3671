"""How six planes become one sequence: the padded rollout, and the two orders that the paper measures it against.

B batch, C channel, N token, P cells a token, L cells of all planes, W width.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from dcgen.config import HexShape
from dcgen.hexplane import PLANES, HexPlane, TokenMap, patchify, plane_tokens, roll, unpatchify, unroll


class PaddedRollout(nn.Module):
    """The patches of hexplane.roll's image that are not padding; a token's place is on the axes of its plane."""

    keep: Tensor

    def __init__(self, shape: HexShape, patch: int) -> None:
        super().__init__()
        self.shape, self.patch = shape, patch
        self.places = plane_tokens(shape, patch)
        self.register_buffer("keep", self.places.keep, persistent=False)

    def split(self, planes: HexPlane) -> Float[Tensor, "B N D"]:
        return patchify(roll(planes), self.patch)[:, self.keep]

    def join(self, tokens: Float[Tensor, "B N D"]) -> HexPlane:
        """The inverse of split."""
        s, p = self.shape, self.patch
        side = s.t + s.x + s.z, s.y + s.z + s.t
        grid = tokens.new_zeros(len(tokens), side[0] * side[1] // p**2, tokens.shape[2])
        grid = grid.index_copy(1, self.keep, tokens)
        return unroll(unpatchify(grid, side[0], p), s)

    def read(self, planes: dict[str, Tensor]) -> Float[Tensor, "B N W"]:
        """Features of the planes, [B, rows, columns, W] with one cell a patch, in the order of the tokens."""
        xy, xz, tx = planes["xy"], planes["xz"], planes["tx"].transpose(1, 2)
        top = torch.cat([xy, xz, tx], dim=2).flatten(1, 2)
        middle = torch.cat([planes["ty"], planes["tz"]], dim=2).flatten(1, 2)
        return torch.cat([top, middle, planes["yz"].transpose(1, 2).flatten(1, 2)], dim=1)


class OrderedRollout(nn.Module):
    """The planes end to end, each row by row, and `order` [N, P]: the cells of that row that make each token."""

    order: Tensor
    back: Tensor
    patches: Tensor

    def __init__(self, shape: HexShape, patch: int, order: Int[Tensor, "N P"], position: Float[Tensor, "N 4"]) -> None:
        super().__init__()
        self.shape = shape
        plane, patches = _cells(shape, patch)
        self.places = TokenMap(torch.arange(len(order)), plane[order[:, 0]], position)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.flatten().argsort(), persistent=False)
        self.register_buffer("patches", patches[order], persistent=False)

    def split(self, planes: HexPlane) -> Float[Tensor, "B N D"]:
        cells = torch.cat([getattr(planes, name).flatten(2) for name in PLANES], dim=2)
        return rearrange(cells[:, :, self.order], "b c n p -> b n (p c)")

    def join(self, tokens: Float[Tensor, "B N D"]) -> HexPlane:
        """The inverse of split."""
        cells = rearrange(tokens, "b n (p c) -> b c (n p)", c=self.shape.channels)[:, :, self.back]
        sizes = self.shape.planes
        parts = cells.split([rows * columns for _, rows, columns in sizes.values()], dim=2)
        return HexPlane(**{n: part.unflatten(2, sizes[n][1:]) for n, part in zip(sizes, parts, strict=True)})

    def read(self, planes: dict[str, Tensor]) -> Float[Tensor, "B N W"]:
        """Features of the planes, [B, rows, columns, W] with one cell a patch: a token reads the mean of its cells."""
        cells = torch.cat([planes[name].flatten(1, 2) for name in PLANES], dim=1)
        return cells[:, self.patches].mean(dim=2)


Rollout = PaddedRollout | OrderedRollout


def rollout_of(name: str, shape: HexShape, patch: int) -> Rollout:
    """By the name that DitConfig.rollout gives it. The planes' sizes must divide by the patch."""
    if name == "padded":
        return PaddedRollout(shape, patch)
    return unfolded(shape, patch) if name == "unfolded" else vertical(shape, patch)


def unfolded(shape: HexShape, patch: int) -> OrderedRollout:
    """Direct unfolding: a token holds consecutive cells, as many as a patch; its place is its number."""
    cells = sum(rows * columns for _, rows, columns in shape.planes.values())
    order = torch.arange(cells).view(-1, patch**2)
    number = (torch.arange(len(order)) + 0.5) * patch
    return OrderedRollout(shape, patch, order, number[:, None].repeat(1, 4))


def vertical(shape: HexShape, patch: int) -> OrderedRollout:
    """Vertical concatenation: the planes one below the other in an image; a token's place is its row and column."""
    order, position = [], []
    first_cell = first_row = 0
    for _, rows, columns in shape.planes.values():
        cells = torch.arange(rows * columns).view(rows, columns) + first_cell
        order.append(rearrange(cells, "(r p) (s q) -> (r s) (p q)", p=patch, q=patch))
        down = first_row + (torch.arange(rows // patch) + 0.5) * patch
        across = (torch.arange(columns // patch) + 0.5) * patch
        down, across = torch.meshgrid(down, across, indexing="ij")
        # Rotary pairs are shared out over four axes: two turn with the row, two with the column, none stands still.
        position.append(torch.stack([down, down, across, across], dim=-1).flatten(0, 1))
        first_cell, first_row = first_cell + rows * columns, first_row + rows
    return OrderedRollout(shape, patch, torch.cat(order), torch.cat(position))


def _cells(shape: HexShape, patch: int) -> tuple[Int[Tensor, " L"], Int[Tensor, " L"]]:
    """The plane of every cell, and its patch where each plane is cut into patches row by row."""
    plane, patches, first = [], [], 0
    for index, (_, rows, columns) in enumerate(shape.planes.values()):
        row, column = torch.arange(rows)[:, None] // patch, torch.arange(columns)[None] // patch
        patches.append((first + row * (columns // patch) + column).flatten())
        plane.append(torch.full((rows * columns,), index))
        first += rows * columns // patch**2
    return torch.cat(plane), torch.cat(patches)
