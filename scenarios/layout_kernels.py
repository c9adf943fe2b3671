"""Loops behind the bird's-eye layout, to be compiled. L level, C channel, T frame, X/Y cell or voxel axes, N agent.

Written as plain loops over arrays; tests compare them bit for bit with whole-array twins.
"""

from __future__ import annotations

import numpy as np

from dcgen.types import HEIGHT_SCALE_M, SPEED_SCALE_MPS


def crop_kernel(  # type: ignore[no-untyped-def]
    flags, height_cm, ox, oy, cell, c, s, tx, ty, tz, gx, gy, vx, vy, z_low, z_high, sub, out
):
    levels, nx, ny = flags.shape
    share = np.float32(1.0) / np.float32(sub * sub)
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            road, marking, junction, sidewalk, crosswalk, mapped, total = 0, 0, 0, 0, 0, 0, 0.0
            for a in range(sub):
                lx = gx + (i + (a + 0.5) / sub) * vx
                for b in range(sub):
                    ly = gy + (j + (b + 0.5) / sub) * vy
                    p = int(np.floor((c * lx - s * ly + tx - ox) / cell))
                    q = int(np.floor((s * lx + c * ly + ty - oy) / cell))
                    if p < 0 or q < 0 or p >= nx or q >= ny:
                        continue
                    best, bits = 1e9, 0
                    for level in range(levels):
                        if flags[level, p, q] != 0:
                            up = height_cm[level, p, q] * 0.01 - tz
                            if z_low <= up < z_high and abs(up) < abs(best):
                                best, bits = up, flags[level, p, q]
                    if bits == 0:
                        continue
                    mapped += 1
                    total += best
                    road += bits & 1
                    marking += (bits >> 1) & 1
                    junction += (bits >> 2) & 1
                    sidewalk += (bits >> 3) & 1
                    crosswalk += (bits >> 4) & 1
            if mapped > 0:
                out[0, i, j] = np.float32(road) * share
                out[1, i, j] = np.float32(marking) * share
                out[2, i, j] = np.float32(junction) * share
                out[3, i, j] = np.float32(sidewalk) * share
                out[4, i, j] = np.float32(crosswalk) * share
                out[6, i, j] = np.float32(total / mapped / HEIGHT_SCALE_M)


def route_kernel(route, shown, gx, gy, vx, vy, half_width, out):  # type: ignore[no-untyped-def]
    nx, ny = out.shape
    reach = half_width + vx
    for n in range(route.shape[0] - 1):
        if not (shown[n] and shown[n + 1]):
            continue
        ax, ay, bx, by = route[n, 0], route[n, 1], route[n + 1, 0], route[n + 1, 1]
        i0 = max(0, int(np.floor(min(max((min(ax, bx) - reach - gx) / vx, -1.0), nx + 1.0))))
        i1 = min(nx, int(np.ceil(min(max((max(ax, bx) + reach - gx) / vx, -1.0), nx + 1.0))))
        j0 = max(0, int(np.floor(min(max((min(ay, by) - reach - gy) / vy, -1.0), ny + 1.0))))
        j1 = min(ny, int(np.ceil(min(max((max(ay, by) + reach - gy) / vy, -1.0), ny + 1.0))))
        if i1 <= i0 or j1 <= j0:
            continue
        dx, dy = bx - ax, by - ay
        length2 = dx * dx + dy * dy
        for i in range(i0, i1):
            x = gx + (i + 0.5) * vx - ax
            for j in range(j0, j1):
                y = gy + (j + 0.5) * vy - ay
                along = 0.0
                if length2 > 0.0:
                    along = min(max((x * dx + y * dy) / length2, 0.0), 1.0)
                ex, ey = x - along * dx, y - along * dy
                cover = (half_width + 0.5 * vx - np.sqrt(ex * ex + ey * ey)) / vx
                value = np.float32(min(max(cover, 0.0), 1.0))
                if value > out[i, j]:
                    out[i, j] = value


def agents_kernel(placed, shown, channel, half, speed, gx, gy, vx, vy, sub, out):  # type: ignore[no-untyped-def]
    frames, _, nx, ny = out.shape
    most = np.zeros((nx, ny), np.int64)
    for t in range(frames):
        most[:, :] = 0
        for n in range(placed.shape[0]):
            if not shown[n, t] or channel[n] < 0:
                continue
            px, py, cos, sin = placed[n, t, 0], placed[n, t, 1], placed[n, t, 2], placed[n, t, 3]
            reach = np.sqrt(half[n, 0] * half[n, 0] + half[n, 1] * half[n, 1])
            if px + reach < gx or py + reach < gy or px - reach > gx + nx * vx or py - reach > gy + ny * vy:
                continue
            i0, i1 = max(0, int(np.floor((px - reach - gx) / vx))), min(nx, int(np.floor((px + reach - gx) / vx)) + 1)
            j0, j1 = max(0, int(np.floor((py - reach - gy) / vy))), min(ny, int(np.floor((py + reach - gy) / vy)) + 1)
            for i in range(i0, i1):
                for j in range(j0, j1):
                    count = 0
                    for a in range(sub):
                        x = gx + (i + (a + 0.5) / sub) * vx - px
                        for b in range(sub):
                            y = gy + (j + (b + 0.5) / sub) * vy - py
                            if abs(cos * x + sin * y) <= half[n, 0] and abs(cos * y - sin * x) <= half[n, 1]:
                                count += 1
                    if count == 0:
                        continue
                    value = np.float32(count) / np.float32(sub * sub)
                    if value > out[t, channel[n], i, j]:
                        out[t, channel[n], i, j] = value
                    if count > most[i, j]:
                        most[i, j] = count
                        out[t, 3, i, j] = np.float32(cos)
                        out[t, 4, i, j] = np.float32(sin)
                        out[t, 5, i, j] = np.float32(speed[n, t] / SPEED_SCALE_MPS)
