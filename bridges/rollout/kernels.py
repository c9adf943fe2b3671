"""Loops behind a scene that is cut again, to be compiled. T frame, X/Y/Z voxel axes, S tile, C channel, N mover.

World cells lie in tiles of TILE^3 (columns: TILE^2); `directory` holds the slot of each tile, -1 where there is none.
Poses are rows [12] of a matrix [3, 4]. Tests compare these loops bit for bit with whole-array twins.
"""

from __future__ import annotations

import numpy as np

from dcgen.types import UNKNOWN

TILE_BITS = 5
TILE = 1 << TILE_BITS
MOVER = 254  # a voxel that somebody moving filled: free, unless another frame knows better


def vote_kernel(labels, poses, low, voxel, cell, first, directory, tiles, votes):  # type: ignore[no-untyped-def]
    """Each voxel's centre votes for the label of its cell; what stays is the majority, where there is one."""
    frames, nx, ny, nz = labels.shape
    for t in range(frames):
        m = poses[t]
        for i in range(nx):
            x = low[0] + (i + 0.5) * voxel[0]
            for j in range(ny):
                y = low[1] + (j + 0.5) * voxel[1]
                for k in range(nz):
                    label = labels[t, i, j, k]
                    if label == UNKNOWN:
                        continue
                    z = low[2] + (k + 0.5) * voxel[2]
                    p = int(np.floor((m[0] * x + m[1] * y + m[2] * z + m[3]) / cell))
                    q = int(np.floor((m[4] * x + m[5] * y + m[6] * z + m[7]) / cell))
                    r = int(np.floor((m[8] * x + m[9] * y + m[10] * z + m[11]) / cell))
                    slot = directory[(p >> 5) - first[0], (q >> 5) - first[1], (r >> 5) - first[2]]
                    a, b, c = p & 31, q & 31, r & 31
                    have = tiles[slot, a, b, c]
                    if label == MOVER:
                        if have == UNKNOWN:
                            tiles[slot, a, b, c] = MOVER
                    elif votes[slot, a, b, c] == 0:
                        tiles[slot, a, b, c] = label
                        votes[slot, a, b, c] = 1
                    elif have == label:
                        votes[slot, a, b, c] += 1
                    else:
                        votes[slot, a, b, c] -= 1


def fill_kernel(labels, inverse, boxes, low, voxel, cell, first, directory, tiles):  # type: ignore[no-untyped-def]
    """Cells that no centre fell in take the label of the first frame's voxel that they lie in."""
    frames, nx, ny, nz = labels.shape
    for t in range(frames):
        m = inverse[t]
        for d in range(boxes[t, 0], boxes[t, 3]):
            for e in range(boxes[t, 1], boxes[t, 4]):
                for f in range(boxes[t, 2], boxes[t, 5]):
                    slot = directory[d, e, f]
                    if slot < 0:
                        continue
                    for a in range(TILE):
                        x = (((d + first[0]) << 5) + a + 0.5) * cell
                        for b in range(TILE):
                            y = (((e + first[1]) << 5) + b + 0.5) * cell
                            for c in range(TILE):
                                have = tiles[slot, a, b, c]
                                if have < MOVER:
                                    continue
                                z = (((f + first[2]) << 5) + c + 0.5) * cell
                                i = int(np.floor((m[0] * x + m[1] * y + m[2] * z + m[3] - low[0]) / voxel[0]))
                                j = int(np.floor((m[4] * x + m[5] * y + m[6] * z + m[7] - low[1]) / voxel[1]))
                                k = int(np.floor((m[8] * x + m[9] * y + m[10] * z + m[11] - low[2]) / voxel[2]))
                                if i < 0 or j < 0 or k < 0 or i >= nx or j >= ny or k >= nz:
                                    continue
                                label = labels[t, i, j, k]
                                if label < have:
                                    tiles[slot, a, b, c] = label


def cut_kernel(m, low, voxel, cell, first, directory, tiles, out):  # type: ignore[no-untyped-def]
    """The cells in which the centres of a grid's voxels lie; UNKNOWN where there are none."""
    nx, ny, nz = out.shape
    na, nb, nc = directory.shape
    for i in range(nx):
        x = low[0] + (i + 0.5) * voxel[0]
        for j in range(ny):
            y = low[1] + (j + 0.5) * voxel[1]
            for k in range(nz):
                z = low[2] + (k + 0.5) * voxel[2]
                p = int(np.floor((m[0] * x + m[1] * y + m[2] * z + m[3]) / cell))
                q = int(np.floor((m[4] * x + m[5] * y + m[6] * z + m[7]) / cell))
                r = int(np.floor((m[8] * x + m[9] * y + m[10] * z + m[11]) / cell))
                d, e, f = (p >> 5) - first[0], (q >> 5) - first[1], (r >> 5) - first[2]
                out[i, j, k] = UNKNOWN
                if d < 0 or e < 0 or f < 0 or d >= na or e >= nb or f >= nc:
                    continue
                slot = directory[d, e, f]
                if slot >= 0:
                    out[i, j, k] = tiles[slot, p & 31, q & 31, r & 31]


def columns_kernel(layout, mapped, turn, low, voxel, cell, origin, between, out, seen):  # type: ignore[no-untyped-def]
    """Paints layouts [T, C, X, Y] into world cells [A, B, C]: those of column centres, or (between) the others.

    turn [T, 4] is cos, sin of the frame's yaw, x, y. The first frame that shows a cell is believed; mapped [T, X, Y]
    says which do: where a layout is empty its frame may lie beyond the grid of its chunk.
    """
    frames, channels, nx, ny = layout.shape
    na, nb = seen.shape
    for t in range(frames):
        c, s, tx, ty = turn[t, 0], turn[t, 1], turn[t, 2], turn[t, 3]
        if not between:
            for i in range(nx):
                x = low[0] + (i + 0.5) * voxel[0]
                for j in range(ny):
                    if not mapped[t, i, j]:
                        continue
                    y = low[1] + (j + 0.5) * voxel[1]
                    a = int(np.floor((c * x - s * y + tx) / cell)) - origin[0]
                    b = int(np.floor((s * x + c * y + ty) / cell)) - origin[1]
                    if not seen[a, b]:
                        seen[a, b] = True
                        for n in range(channels):
                            out[a, b, n] = layout[t, n, i, j]
            continue
        rx, ry = nx * voxel[0], ny * voxel[1]
        mx, my = low[0] + rx / 2, low[1] + ry / 2
        reach = np.sqrt(rx * rx + ry * ry) / 2
        cx, cy = c * mx - s * my + tx, s * mx + c * my + ty
        a0, a1 = int(np.floor((cx - reach) / cell)) - origin[0], int(np.floor((cx + reach) / cell)) - origin[0]
        b0, b1 = int(np.floor((cy - reach) / cell)) - origin[1], int(np.floor((cy + reach) / cell)) - origin[1]
        for a in range(max(0, a0), min(na, a1 + 1)):
            x = (a + origin[0] + 0.5) * cell - tx
            for b in range(max(0, b0), min(nb, b1 + 1)):
                if seen[a, b]:
                    continue
                y = (b + origin[1] + 0.5) * cell - ty
                i = int(np.floor((c * x + s * y - low[0]) / voxel[0]))
                j = int(np.floor((c * y - s * x - low[1]) / voxel[1]))
                if i < 0 or j < 0 or i >= nx or j >= ny or not mapped[t, i, j]:
                    continue
                seen[a, b] = True
                for n in range(channels):
                    out[a, b, n] = layout[t, n, i, j]


def cut_columns_kernel(turn, low, voxel, cell, origin, cells, out):  # type: ignore[no-untyped-def]
    """Channels [C, X, Y] of the world cells [A, B, C] in which column centres lie; 0 outside."""
    channels, nx, ny = out.shape
    na, nb = cells.shape[0], cells.shape[1]
    c, s, tx, ty = turn[0], turn[1], turn[2], turn[3]
    for i in range(nx):
        x = low[0] + (i + 0.5) * voxel[0]
        for j in range(ny):
            y = low[1] + (j + 0.5) * voxel[1]
            a = int(np.floor((c * x - s * y + tx) / cell)) - origin[0]
            b = int(np.floor((s * x + c * y + ty) / cell)) - origin[1]
            inside = a >= 0 and b >= 0 and a < na and b < nb
            for n in range(channels):
                out[n, i, j] = cells[a, b, n] if inside else 0.0


def extents_kernel(instances, counts, boxes):  # type: ignore[no-untyped-def]
    """How many voxels each object has in each frame, [T, N], and the box of indices around them, [T, N, 6]."""
    frames, nx, ny, nz = instances.shape
    for t in range(frames):
        for i in range(nx):
            for j in range(ny):
                for k in range(nz):
                    n = int(instances[t, i, j, k]) - 1
                    if n < 0:
                        continue
                    box = boxes[t, n]
                    if counts[t, n] == 0:
                        box[0], box[1], box[2], box[3], box[4], box[5] = i, j, k, i, j, k
                    counts[t, n] += 1
                    box[0], box[3] = min(box[0], i), max(box[3], i)
                    box[1], box[4] = min(box[1], j), max(box[4], j)
                    box[2], box[5] = min(box[2], k), max(box[5], k)


def stamp_kernel(  # type: ignore[no-untyped-def]
    labels, instances, row, frame, source, half, class_id, place, motion, windows, low, voxel, out, owner, flow, hits
):
    """Puts movers into a grid: voxels of a recorded frame moved rigidly, or (frame < 0) a box.

    source [N, 12] takes points of the grid's frame into the recorded frame's, or into the box's own; place [N, 2] and
    motion [N, 3] are x, y and the velocity x, y and about z, in the grid's frame; windows [N, 6] bound the indices.
    """
    _, sx, sy, sz = labels.shape
    for n in range(len(row)):
        m = source[n]
        for i in range(windows[n, 0], windows[n, 3]):
            x = low[0] + (i + 0.5) * voxel[0]
            for j in range(windows[n, 1], windows[n, 4]):
                y = low[1] + (j + 0.5) * voxel[1]
                for k in range(windows[n, 2], windows[n, 5]):
                    z = low[2] + (k + 0.5) * voxel[2]
                    u = m[0] * x + m[1] * y + m[2] * z + m[3]
                    v = m[4] * x + m[5] * y + m[6] * z + m[7]
                    w = m[8] * x + m[9] * y + m[10] * z + m[11]
                    label = class_id[n]
                    if frame[n] >= 0:
                        a = int(np.floor((u - low[0]) / voxel[0]))
                        b = int(np.floor((v - low[1]) / voxel[1]))
                        c = int(np.floor((w - low[2]) / voxel[2]))
                        if a < 0 or b < 0 or c < 0 or a >= sx or b >= sy or c >= sz:
                            continue
                        if instances[frame[n], a, b, c] != row[n] + 1:
                            continue
                        label = labels[frame[n], a, b, c]
                    elif abs(u) > half[n, 0] or abs(v) > half[n, 1] or w < 0.0 or w > half[n, 2]:
                        continue
                    out[i, j, k] = label
                    owner[i, j, k] = row[n] + 1
                    flow[i, j, k, 0] = motion[n, 0] - motion[n, 2] * (y - place[n, 1])
                    flow[i, j, k, 1] = motion[n, 1] + motion[n, 2] * (x - place[n, 0])
                    hits[n] += 1
