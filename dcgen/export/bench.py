"""Seconds that a picture takes, all in: mesh, drawing, pixels. python -m dcgen.export.bench SCENE... on Linux."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

import numpy as np

from dcgen.export.camera import CAMERAS
from dcgen.export.frame import frame_of
from dcgen.export.look import Look
from dcgen.export.render import Shot, draw_shot
from dcgen.export.worker import Open3DWorker
from dcgen.scene_file import load_scene
from dcgen.types import Scene

SIZE_PX = (1280, 720)
_PICTURES = 16


@dataclass(frozen=True)
class Cost:
    """Of one picture, after the first two, by this process and the one that draws, which take turns."""

    busy_s: float  # CPU seconds of both, the mean: what the clock would say of an idle core
    median_s: float  # by the clock


def measure(scene: Scene, camera: str, pictures: int = _PICTURES) -> Cost:
    """Draw frames of a scene one after the other, as a film does. Raises WorkerFailed where Open3D cannot."""
    shot = Shot(camera, SIZE_PX, Look(boxes=True))
    took, busy = [], []
    with Open3DWorker() as worker:
        for n in range(pictures + 2):
            start, before = time.perf_counter(), time.process_time() + worker.busy_s()
            draw_shot(frame_of(scene, n % len(scene.time_s)), shot, SIZE_PX, worker.draw)
            took.append(time.perf_counter() - start)
            busy.append(time.process_time() + worker.busy_s() - before)
    return Cost(float(np.mean(busy[2:])), float(np.median(took[2:])))


def main(paths: list[str]) -> None:
    """One row a scene and camera."""
    if hasattr(os, "sched_setaffinity"):  # one core for this process and the one that draws
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print("| grid | camera | busy s | clock s |\n| --- | --- | --- | --- |")
    for path in paths:
        scene = load_scene(path)
        grid = "x".join(str(n) for n in scene.grid.shape)
        for camera in CAMERAS:
            cost = measure(scene, camera)
            print(f"| {grid} | {camera} | {cost.busy_s:.3f} | {cost.median_s:.3f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
