"""Slow twins: the plainest way to compute what a fast path computes. Tests compare the two."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from torch import cat, stack
from torch.nn import functional

from dcgen.types import CLASS_NAMES, MOVABLE, UNKNOWN

# --- sparse convolution (dcgen/vae/backbone.py) ---


def dense_submanifold(values, active, weight, bias):  # type: ignore[no-untyped-def]
    """3x3x3 convolution of the masked volume [B, C, X, Y, Z], masked again. weight [3, 3, 3, in, out]."""
    mask = active[:, None].to(values.dtype)
    kernel = weight.permute(4, 3, 0, 1, 2)
    return functional.conv3d(values * mask, kernel, bias, padding=1) * mask


def dense_strided(values, active, weight, bias):  # type: ignore[no-untyped-def]
    """Convolution whose kernel is its stride, zeros beyond the far edges; returns values and the coarse mask."""
    stride = weight.shape[:3]
    pad = [(-n) % s for n, s in zip(active.shape[1:], stride, strict=True)]
    sides = (0, pad[2], 0, pad[1], 0, pad[0])
    mask = functional.pad(active[:, None].to(values.dtype), sides)
    coarse = functional.max_pool3d(mask, stride)
    out = functional.conv3d(functional.pad(values, sides) * mask, weight.permute(4, 3, 0, 1, 2), bias, stride)
    return out * coarse, coarse[:, 0].bool()


# --- Lovasz-softmax (dcgen/vae/loss.py) ---


def lovasz_by_sets(probabilities, labels):  # type: ignore[no-untyped-def]
    """Lovasz extension from its definition: voxels join the set of errors worst first. [N, K], [N] -> scalar."""
    losses = []
    for k in sorted(set(labels.tolist())):
        truth = {i for i, label in enumerate(labels.tolist()) if label == k}
        errors = [1 - p[k] if i in truth else p[k] for i, p in enumerate(probabilities)]
        wrong: set[int] = set()
        loss, before = 0.0, 0.0
        for i in sorted(range(len(errors)), key=lambda i: -errors[i].item()):
            wrong.add(i)
            after = 1 - len(truth - wrong) / len(truth | wrong)
            loss, before = loss + errors[i] * (after - before), after
        losses.append(loss)
    return sum(losses) / len(losses)


# --- bird's-eye layout (scenarios/layout.py) ---


def crop_static_numpy(raster, anchor, grid, route_xy_m):  # type: ignore[no-untyped-def]
    """[7, X, Y] by whole arrays: every sub-point looked up in turn, every route segment measured from every column."""
    nx, ny, nz = grid.shape
    (gx, gy, gz), (vx, vy, vz) = grid.origin_m, grid.voxel_m
    norm = float(np.hypot(anchor[0, 0], anchor[1, 0]))
    c, s = float(anchor[0, 0]) / norm, float(anchor[1, 0]) / norm
    tx, ty, tz = float(anchor[0, 3]), float(anchor[1, 3]), float(anchor[2, 3]) - raster.z0_m
    sub = max(1, round(min(vx, vy) / raster.cell_m))
    counts, mapped, total = np.zeros((5, nx, ny), int), np.zeros((nx, ny), int), np.zeros((nx, ny))
    for a in range(sub):
        for b in range(sub):
            lx = (gx + (np.arange(nx) + (a + 0.5) / sub) * vx)[:, None]
            ly = (gy + (np.arange(ny) + (b + 0.5) / sub) * vy)[None]
            p = np.floor((c * lx - s * ly + tx - raster.origin_m[0]) / raster.cell_m).astype(int)
            q = np.floor((s * lx + c * ly + ty - raster.origin_m[1]) / raster.cell_m).astype(int)
            inside = (p >= 0) & (q >= 0) & (p < raster.flags.shape[1]) & (q < raster.flags.shape[2])
            best, bits = np.full((nx, ny), 1e9), np.zeros((nx, ny), np.uint8)
            for level in range(len(raster.flags)):
                flags = np.where(inside, raster.flags[level, p * inside, q * inside], 0).astype(np.uint8)
                up = raster.height_cm[level, p * inside, q * inside] * 0.01 - tz
                take = (flags != 0) & (up >= gz) & (up < gz + nz * vz) & (np.abs(up) < np.abs(best))
                best, bits = np.where(take, up, best), np.where(take, flags, bits)
            mapped += bits != 0
            total += np.where(bits != 0, best, 0.0)
            counts += np.stack([(bits >> bit) & 1 for bit in range(5)])
    out = np.zeros((7, nx, ny), np.float32)
    out[:5] = counts.astype(np.float32) * (np.float32(1.0) / np.float32(sub * sub))
    out[6] = np.where(mapped > 0, total / np.maximum(mapped, 1) / 4.0, 0.0)
    x, y = gx + (np.arange(nx) + 0.5) * vx, gy + (np.arange(ny) + 0.5) * vy
    route = np.asarray(route_xy_m) - (tx, ty)
    route = np.stack([route[:, 0] * c + route[:, 1] * s, route[:, 1] * c - route[:, 0] * s], axis=1)
    for (ax, ay), (bx, by) in pairwise(route):
        dx, dy = bx - ax, by - ay
        px, py = (x - ax)[:, None], (y - ay)[None]
        along = np.clip((px * dx + py * dy) / (dx * dx + dy * dy), 0.0, 1.0)
        ex, ey = px - along * dx, py - along * dy
        cover = (1.0 + 0.5 * vx - np.sqrt(ex * ex + ey * ey)) / vx
        out[5] = np.maximum(out[5], np.clip(cover, 0.0, 1.0).astype(np.float32))
    return out


def draw_agents_numpy(agents, anchor, grid):  # type: ignore[no-untyped-def]
    """[T, 6, X, Y] by whole arrays: each agent's box asked for every sub-point of the grid."""
    nx, ny, nz = grid.shape
    norm = float(np.hypot(anchor[0, 0], anchor[1, 0]))
    c, s = float(anchor[0, 0]) / norm, float(anchor[1, 0]) / norm
    frames, sub = agents.valid.shape[1], 4
    out = np.zeros((frames, 6, nx, ny), np.float32)
    offset = (np.arange(sub) + 0.5) / sub
    x = (grid.origin_m[0] + (np.arange(nx)[:, None] + offset) * grid.voxel_m[0])[:, None, :, None]
    y = (grid.origin_m[1] + (np.arange(ny)[:, None] + offset) * grid.voxel_m[1])[None, :, None, :]
    for t in range(frames):
        most = np.zeros((nx, ny), int)
        for n in range(len(agents.id)):
            up = agents.z_m[n, t] - float(anchor[2, 3])
            channel = {10: 0, 11: 1, 4: 2}.get(int(agents.class_id[n]))
            if not agents.valid[n, t] or channel is None:
                continue
            if not grid.origin_m[2] <= up < grid.origin_m[2] + nz * grid.voxel_m[2]:
                continue
            dx, dy = agents.pose[n, t, 0] - float(anchor[0, 3]), agents.pose[n, t, 1] - float(anchor[1, 3])
            px, py = c * dx + s * dy, c * dy - s * dx
            cos, sin = np.cos(agents.pose[n, t, 2]), np.sin(agents.pose[n, t, 2])
            cos, sin = cos * c + sin * s, sin * c - cos * s
            half = agents.size_m[n].astype(float) / 2
            inside = (np.abs(cos * (x - px) + sin * (y - py)) <= half[0]) & (
                np.abs(cos * (y - py) - sin * (x - px)) <= half[1]
            )
            count = inside.sum(axis=(2, 3))
            share = count.astype(np.float32) / np.float32(sub * sub)
            out[t, channel] = np.maximum(out[t, channel], share)
            better = count > most
            most = np.where(better, count, most)
            for where, value in ((3, cos), (4, sin), (5, float(agents.speed_mps[n, t]) / 10.0)):
                out[t, where] = np.where(better, np.float32(value), out[t, where])
    return out


# --- figures of merit (dcgen/eval) ---


def moving_iou_by_loops(predicted, truth, moving, voxel_m):  # type: ignore[no-untyped-def]
    """(hits, total) by class name and "all", one voxel at a time."""
    out = {"all": [0, 0]} | {CLASS_NAMES[k]: [0, 0] for k in MOVABLE}
    for t, x, y, z in np.ndindex(*truth.shape):
        guess, real = int(predicted[t, x, y, z]), int(truth[t, x, y, z])
        if moving[t, x, y, z]:
            for name in ("all", CLASS_NAMES[real]):
                out[name][0] += guess == real
                out[name][1] += 1
        if guess in MOVABLE and guess != real and real != UNKNOWN:
            movers = [(i, j, int(truth[t, i, j, k])) for i, j, k in np.argwhere(moving[t])]
            near = {c for i, j, c in movers if ((i - x) * voxel_m[0]) ** 2 + ((j - y) * voxel_m[1]) ** 2 <= 16 + 1e-6}
            out["all"][1] += bool(near)
            out[CLASS_NAMES[guess]][1] += guess in near
    return {name: tuple(pair) for name, pair in out.items()}


def pieces_by_flooding(solid):  # type: ignore[no-untyped-def]
    """How many 26-connected pieces a boolean volume has."""
    left, count = {tuple(v) for v in np.argwhere(solid).tolist()}, 0
    while left:
        count, front = count + 1, [left.pop()]
        while front:
            x, y, z = front.pop()
            touching = {v for v in left if max(abs(v[0] - x), abs(v[1] - y), abs(v[2] - z)) <= 1}
            left -= touching
            front += touching
    return count


def seen_again_by_loops(first, second, second_se3_first, grid):  # type: ignore[no-untyped-def]
    """(exact, tolerant, total) static voxels of `first` looked up in `second`, one at a time."""
    exact = tolerant = total = 0
    for voxel in np.argwhere((first != 0) & (first != UNKNOWN) & ~np.isin(first, MOVABLE)):
        point = np.append(np.array(grid.origin_m) + (voxel + 0.5) * grid.voxel_m, 1.0)
        place = np.floor(((second_se3_first @ point)[:3] - grid.origin_m) / grid.voxel_m).astype(int)
        if np.any(place < 0) or np.any(place >= grid.shape) or second[tuple(place)] in (*MOVABLE, UNKNOWN):
            continue
        around = second[tuple(slice(max(p - 1, 0), p + 2) for p in place)]
        total += 1
        exact += second[tuple(place)] == first[tuple(voxel)]
        tolerant += first[tuple(voxel)] in around
    return exact, tolerant, total


# --- padded rollout (dcgen/hexplane.py) ---

PLANE_NAMES = ("xy", "xz", "yz", "tx", "ty", "tz")


def rollout_places(t, x, y, z):  # type: ignore[no-untyped-def]
    """{(row, column) of the padded image: (plane, row, column of the plane)}, from the picture in the paper."""
    row = {"x": 0, "t": x, "z": x + t}
    column = {"y": 0, "z": y, "t": y + z}
    size = {"t": t, "x": x, "y": y, "z": z}
    places = {}
    for plane, down, across in (("xy", "x", "y"), ("xz", "x", "z"), ("tx", "x", "t"), ("ty", "t", "y"),
                                ("tz", "t", "z"), ("yz", "z", "y")):  # fmt: skip
        for i in range(size[down]):
            for j in range(size[across]):
                inside = (i, j) if plane[0] == down else (j, i)
                places[row[down] + i, column[across] + j] = (plane, *inside)
    return places


# --- rotary positions (dcgen/dit/embed.py) ---


def rotary_by_complex_numbers(x, position):  # type: ignore[no-untyped-def]
    """Pair p of a head [N, E] is the complex number x[p] + i x[p + E/2], turned by position[axis] * frequency."""
    tokens, head = x.shape
    pairs, out = head // 2, x.clone()
    each = pairs // 4
    for n in range(tokens):
        for axis in range(4):
            for f in range(each):
                p, angle = axis * each + f, float(position[n, axis]) * 100.0 ** (-f / each)
                turned = complex(x[n, p], x[n, p + pairs]) * complex(np.cos(angle), np.sin(angle))
                out[n, p], out[n, p + pairs] = turned.real, turned.imag
    return out


# --- attention pooling (dcgen/vae/projection.py) ---


def summary_by_softmax(module, sites, code, cell, cells):  # type: ignore[no-untyped-def]
    """SummaryAttention a cell at a time: softmax over the empty token and the cell's sites, head by head."""
    rows = []
    for n in range(cells):
        inputs = cat([sites, code], dim=1)[cell == n]
        scores = cat([module.empty_key[None], module.key(inputs)])
        values = cat([module.empty_value[None], module.value(inputs)])
        heads = [s.softmax(0) @ v for s, v in zip(scores.T, values.chunk(module.heads, dim=1), strict=True)]
        pooled = cat(heads)
        rows.append(pooled + module.mlp(module.norm(pooled)))
    return stack(rows)


# --- canvas (dcgen/canvas.py) ---


class CellDict:
    """The canvas as a dictionary of cells."""

    def __init__(self, cell_m):  # type: ignore[no-untyped-def]
        self.cell_m, self.cells = cell_m, {}

    def _key(self, point):  # type: ignore[no-untyped-def]
        return tuple(int(np.floor(v / self.cell_m)) for v in point)

    def write(self, points, labels):  # type: ignore[no-untyped-def]
        for point, label in zip(points.reshape(-1, 3), labels.reshape(-1), strict=True):
            if label != UNKNOWN:
                self.cells.setdefault(self._key(point), int(label))

    def read(self, points):  # type: ignore[no-untyped-def]
        flat = [self.cells.get(self._key(point), UNKNOWN) for point in points.reshape(-1, 3)]
        return np.array(flat, np.uint8).reshape(points.shape[:-1])
