"""A tile packed for cutting: one word a cell, equal stacks of spans kept once. N cell, L level, S span, P stack.

A word holds, from its low end: surface_cm + 32768 (16 bits), the surface's class (8), whether there is a deck (8), the
number of its stack of spans (32), 0 for none. Neighbours that are alike then have equal words, whatever stands on them.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.types import Labels
from scenarios.paint import compiled
from scenarios.world.town.tile import Heights, TownTile


@dataclass(frozen=True)
class PackedTile:
    """A tile as the fast kernel reads it; level_* are the tile's own arrays."""

    word: NDArray[np.uint64]  # [N], cell [x, y] at x * Y + y
    level_class: Labels  # [L, N]
    level_cm: Heights  # [L, N]
    stack_class: Labels  # [P, S], 0 behind the last span
    stack_lo_mm: NDArray[np.int64]  # [P, S]
    stack_hi_mm: NDArray[np.int64]  # [P, S]


_packed: dict[int, PackedTile] = {}


def packed(tile: TownTile) -> PackedTile:
    """The packed tile, made at its first cut and kept for as long as the tile lives. From then on its arrays are
    read-only, so that nobody changes a tile behind its packed twin."""
    key = id(tile)
    if key not in _packed:
        for array in (tile.surface_class, tile.surface_cm, tile.span_class, tile.span_lo_cm, tile.span_hi_cm):
            array.flags.writeable = False
        _packed[key] = _pack(tile)
        weakref.finalize(tile, _packed.pop, key, None)
    return _packed[key]


def _flat(layers: Any) -> Any:
    return layers.reshape(len(layers), -1)


def _pack(tile: TownTile) -> PackedTile:
    surface_class, span_class = _flat(tile.surface_class), _flat(tile.span_class)
    surface_cm, lo_cm, hi_cm = _flat(tile.surface_cm), _flat(tile.span_lo_cm), _flat(tile.span_hi_cm)
    solid = sum(int(np.count_nonzero(layer)) for layer in span_class)
    slots = np.zeros(1 << (2 * solid + 1).bit_length(), np.int32)
    word = np.empty(surface_class.shape[1], np.uint64)
    first_cell = np.zeros(solid + 1, np.int64)
    count = compiled(pack_cells)(surface_class, surface_cm, span_class, lo_cm, hi_cm, slots, word, first_cell)
    stack_class, lo, hi = (each[:, first_cell[:count]].T for each in (span_class, lo_cm, hi_cm))
    order = np.argsort(stack_class == 0, axis=1, kind="stable")  # used spans first
    stack_class, lo, hi = (np.take_along_axis(each, order, axis=1) for each in (stack_class, lo, hi))
    stack_class[0] = 0
    return PackedTile(word, surface_class, surface_cm, stack_class, lo.astype(np.int64) * 10, hi.astype(np.int64) * 10)


def pack_cells(
    surface_class: Any,  # uint8 [L, N]
    surface_cm: Any,  # int16 [L, N]
    span_class: Any,  # uint8 [S, N]
    span_lo_cm: Any,  # int16 [S, N]
    span_hi_cm: Any,  # int16 [S, N]
    slots: Any,  # int32 [a power of two, twice the number of solid cells or more], zero on entry
    word: Any,  # out, uint64 [N]
    first_cell: Any,  # out, int64 [1 + the number of solid cells] the first cell of each stack
) -> int:
    """Kernel: write the words; the number of stacks, the empty one included."""
    levels, cells = surface_class.shape
    spans, mask = span_class.shape[0], slots.shape[0] - 1
    count = 1
    for n in range(cells):
        mixed = np.uint64(0)
        solid = False
        for s in range(spans):
            solid = solid or span_class[s, n] != 0
            key = (int(span_class[s, n]) << 32) | (int(span_lo_cm[s, n] + 32768) << 16) | int(span_hi_cm[s, n] + 32768)
            mixed = (mixed ^ np.uint64(key)) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
        stack = 0
        slot = np.int64(mixed >> np.uint64(20)) & mask
        while solid:  # open addressing
            stack = slots[slot]
            if stack == 0:
                stack = slots[slot] = count
                first_cell[count] = n
                count += 1
                break
            other = first_cell[stack]
            same = True
            for s in range(spans):
                same = same and span_class[s, n] == span_class[s, other] and span_lo_cm[s, n] == span_lo_cm[s, other]
                same = same and span_hi_cm[s, n] == span_hi_cm[s, other]
            if same:
                break
            slot = (slot + 1) & mask
        deck = 0
        for level in range(1, levels):
            deck |= surface_class[level, n] != 0
        low = (int(deck) << 24) | (int(surface_class[0, n]) << 16) | int(surface_cm[0, n] + 32768)
        word[n] = np.uint64((int(stack) << 32) | low)
    return count
