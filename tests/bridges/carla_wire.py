"""The bytes that a CARLA client and server exchange: a little MessagePack, stream tokens, state and LiDAR frames."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

STATE, SEMANTIC_LIDAR = 17, 10  # sensor types of 0.9.16


class Truncated(Exception):
    """The buffer ends within a value: more bytes are on their way."""


def pack(value: Any) -> bytes:
    """One value as MessagePack."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return struct.pack(">BQ", 0xCF, value) if value >= 0 else struct.pack(">Bq", 0xD3, value)
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, str):
        raw = value.encode()
        return struct.pack(">BI", 0xDB, len(raw)) + raw
    if isinstance(value, bytes):
        return struct.pack(">BI", 0xC6, len(value)) + value
    return struct.pack(">BI", 0xDD, len(value)) + b"".join(map(pack, value))


SCALARS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h",
           0xD2: ">i", 0xD3: ">q"}  # fmt: skip
LENGTHS = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I", 0xDC: ">H", 0xDD: ">I"}
CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def unpack(raw: bytes, at: int = 0) -> tuple[Any, int]:
    """The value that begins at byte `at`, and where it ends. Raises Truncated."""

    def take(form: str) -> Any:
        nonlocal at
        if len(raw) < at + struct.calcsize(form):
            raise Truncated
        (value,) = struct.unpack_from(form, raw, at)
        at += struct.calcsize(form)
        return value

    code = take(">B")
    if code < 0x80 or code >= 0xE0:
        return (code if code < 0x80 else code - 256), at
    if code in CONSTANTS:
        return CONSTANTS[code], at
    if code in SCALARS:
        return take(SCALARS[code]), at
    if 0x90 <= code < 0xA0 or code in (0xDC, 0xDD):
        items = []
        for _ in range(code & 0x0F if code < 0xA0 else take(LENGTHS[code])):
            item, at = unpack(raw, at)
            items.append(item)
        return items, at
    size = code & 0x1F if 0xA0 <= code < 0xC0 else take(LENGTHS[code])
    body = take(f">{size}s")
    return (body.decode() if 0xA0 <= code < 0xC0 or code >= 0xD9 else body), at


def token(stream: int, port: int) -> bytes:
    """Where a stream is to be had: a TCP port of the loopback."""
    return struct.pack("<IHBB16s", stream, port, 1, 1, bytes([127, 0, 0, 1]))


def frame_header(sensor: int, frame: int, time_s: float, transform: list[float]) -> bytes:
    return struct.pack("<QQd6f", sensor, frame, time_s, *transform)


def world_state(episode: int, frame: int, delta_s: float, actors: list[tuple[int, list[float], list[float]]]) -> bytes:
    """actors: id, transform (x, y, z, pitch, yaw, roll) and velocity of each."""
    body = frame_header(STATE, frame, frame * delta_s, [0.0] * 6)
    body += struct.pack("<QdfiiiI", episode, frame * delta_s, delta_s, 0, 0, 0, 0)
    for number, transform, velocity in actors:
        body += struct.pack("<IB6f3f6f54s", number, 1, *transform, *velocity, *[0.0] * 6, b"")
    return body


POINT = np.dtype([("xyz", "<f4", 3), ("cos", "<f4"), ("id", "<u4"), ("tag", "<u4")])


def lidar_frame(frame: int, time_s: float, transform: list[float], channels: list[np.ndarray]) -> bytes:
    """Hits of a semantic LiDAR, channel by channel, in POINT's layout."""
    counts = [len(channel) for channel in channels]
    head = struct.pack(f"<fI{len(counts)}I", 0.0, len(counts), *counts)
    return frame_header(SEMANTIC_LIDAR, frame, time_s, transform) + head + b"".join(c.tobytes() for c in channels)
