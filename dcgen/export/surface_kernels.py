"""The loop behind the surface of a frame, to be compiled: faces found, lit, and merged where they look the same.

X/Y/Z voxel axes, K paint, Q quad. Voxels lie in a padded array, flat, so that a neighbour is an offset. Tests compare
every unit face, bit for bit, with a whole-array twin that merges nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

MOST_EDGE = 8  # voxels along a merged face: colours that change over it, as in mist, stay true


def lit_faces(
    paint: Any,  # uint16 [(X + 2) * (Y + 2) * (Z + 2)], 0 where one sees through
    shape: Any,  # int64 [3] X, Y, Z
    colours: Any,  # float32 [K, Z, 3] of a paint in a layer, before light
    axis: int,
    sign: int,
    light: Any,  # float32 [2, 4] in shadow or sun, by how many of a corner's three neighbours are free
    sunny: bool,  # whether such a face looks to the sun at all
    step: Any,  # float64 [3] voxels to the sun, the longest of them 1
    ring: Any,  # int64 [4, 2] corners of a face in -1 and 1, counter-clockwise from outside
    corners: Any,  # out, int16 [Q, 4, 3] in voxels
    colour: Any,  # out, uint8 [Q, 4, 3]
    top: Any,  # out, uint8 [X, Y, 3] mean colour of the highest face of a column; for axis 2 alone
) -> int:
    """Write the faces that look to `sign` of `axis`, and return their number."""
    one = 1 if axis == 0 else 0
    two = 1 if axis == 2 else 2
    stride = np.empty(3, np.int64)
    stride[0] = (shape[1] + 2) * (shape[2] + 2)
    stride[1] = shape[2] + 2
    stride[2] = 1
    ahead = sign * stride[axis]
    first = stride[0] + stride[1] + stride[2]
    n_one, n_two = shape[one], shape[two]
    mask = np.zeros((n_one, n_two), np.int64)  # 1 + red, green and blue in one number, where all corners agree
    at = np.empty(3, np.int64)
    seen = np.empty((4, 3), np.uint8)
    centre, start = np.empty(3), np.empty(3)
    found = 0
    for s in range(shape[axis]):
        flat_faces = False
        for u in range(n_one):
            for v in range(n_two):
                mask[u, v] = 0
                cell = first + s * stride[axis] + u * stride[one] + v * stride[two]
                beyond = cell + ahead
                if paint[cell] == 0 or paint[beyond] != 0:
                    continue
                at[axis], at[one], at[two] = s, u, v
                for a in range(3):
                    centre[a] = at[a] + 0.5
                centre[axis] += 0.5 * sign
                for n in range(4):
                    side_one = beyond + ring[n, 0] * stride[one]
                    side_two = beyond + ring[n, 1] * stride[two]
                    third = beyond + ring[n, 0] * stride[one] + ring[n, 1] * stride[two]
                    solid_one, solid_two = paint[side_one] != 0, paint[side_two] != 0
                    if solid_one and solid_two:
                        free = 0
                    else:
                        free = 3 - int(solid_one) - int(solid_two) - int(paint[third] != 0)
                    lit = 1
                    if sunny:
                        # A corner looks from 40 % of the way to it, so that what it touches casts no shadow on it.
                        start[axis] = centre[axis] + 0.02 * sign
                        start[one] = centre[one] + 0.4 * (0.5 * ring[n, 0])
                        start[two] = centre[two] + 0.4 * (0.5 * ring[n, 1])
                        k = 1
                        while True:
                            x = int(np.floor(start[0] + 0.5 * k * step[0]))
                            y = int(np.floor(start[1] + 0.5 * k * step[1]))
                            z = int(np.floor(start[2] + 0.5 * k * step[2]))
                            if x < 0 or y < 0 or x >= shape[0] or y >= shape[1] or z >= shape[2]:
                                break
                            if paint[first + x * stride[0] + y * stride[1] + z] != 0:
                                lit = 0
                                break
                            k += 1
                    for c in range(3):
                        value = colours[paint[cell], at[2], c] * light[lit, free]
                        seen[n, c] = np.uint8(min(value, np.float32(255.0)))
                if axis == 2:
                    for c in range(3):
                        total = int(seen[0, c]) + int(seen[1, c]) + int(seen[2, c]) + int(seen[3, c])
                        top[u, v, c] = total // 4
                flat = True
                for n in range(1, 4):
                    for c in range(3):
                        flat = flat and seen[n, c] == seen[0, c]
                if flat:
                    mask[u, v] = 1 + (int(seen[0, 0]) << 16) + (int(seen[0, 1]) << 8) + int(seen[0, 2])
                    flat_faces = True
                    continue
                for n in range(4):
                    corners[found, n, axis] = s + (1 if sign > 0 else 0)
                    corners[found, n, one] = u + (ring[n, 0] + 1) // 2
                    corners[found, n, two] = v + (ring[n, 1] + 1) // 2
                    for c in range(3):
                        colour[found, n, c] = seen[n, c]
                found += 1
        if not flat_faces:
            continue
        for u in range(n_one):
            for v in range(n_two):
                key = mask[u, v]
                if key == 0:
                    continue
                wide = 1
                while wide < MOST_EDGE and v + wide < n_two and mask[u, v + wide] == key:
                    wide += 1
                deep, alike = 1, True
                while alike and deep < MOST_EDGE and u + deep < n_one:
                    for w in range(wide):
                        alike = alike and mask[u + deep, v + w] == key
                    if alike:
                        deep += 1
                for d in range(deep):
                    for w in range(wide):
                        mask[u + d, v + w] = 0
                for n in range(4):
                    corners[found, n, axis] = s + (1 if sign > 0 else 0)
                    corners[found, n, one] = u + deep * ((ring[n, 0] + 1) // 2)
                    corners[found, n, two] = v + wide * ((ring[n, 1] + 1) // 2)
                    colour[found, n, 0] = (key - 1) >> 16
                    colour[found, n, 1] = ((key - 1) >> 8) & 255
                    colour[found, n, 2] = (key - 1) & 255
                found += 1
    return found
