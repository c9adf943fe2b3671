"""Traffic on a map, simulated by SUMO in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from dcgen.errors import WorldError
from scenarios.layout import rasterise
from scenarios.reading import scratch_folder
from scenarios.road_cache import save_map
from scenarios.roads import read_map
from scenarios.world.traffic.log import TrafficLog, load_traffic
from scenarios.world.traffic.spec import TrafficPlan, TrafficSpec
from scenarios.world.traffic.sumo_net import convert_map
from scenarios.world.traffic.untangle import untangle


def simulate(map_path: Path, seed: int, seconds: float, spec: TrafficSpec | None = None) -> TrafficLog:
    """Simulate traffic on an OpenDRIVE map; the same arguments give the same log.

    Road users that SUMO drove through each other or off their road are left out (see untangle.py). libsumo keeps its
    state in globals and may take its process down, so it runs in a child. Raises MissingExtra without SUMO, MapError
    for a map that cannot be read, WorldError where the simulation fails.
    """
    plan = TrafficPlan(str(map_path), seed, seconds, spec or TrafficSpec())
    with scratch_folder(str(map_path), WorldError) as folder:
        net = convert_map(Path(map_path), folder)
        road_map = read_map(Path(map_path))
        save_map(road_map, folder / "roads.npz")
        (folder / "plan.json").write_text(json.dumps(plan.to_dict()), encoding="utf-8")
        log = _run_child(plan, net, folder)
    return untangle(log, rasterise(road_map))


def _run_child(plan: TrafficPlan, net: Path, folder: Path) -> TrafficLog:
    """The log that sumo_run leaves in folder/traffic.npz. Raises WorldError."""
    out = folder / "traffic.npz"
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    files = (net, folder / "roads.npz", folder / "plan.json", out)
    command = [sys.executable, "-m", "scenarios.world.traffic.sumo_run", *map(str, files)]
    limit_s = 120 + 4 * (plan.seconds + plan.spec.warmup_s) * max(1.0, 0.1 / plan.spec.dt_s)
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise WorldError(
            f"{plan.map_path}: the traffic simulation did not finish within {limit_s:.0f} s; ask for fewer --seconds"
        ) from None
    if done.returncode != 0 or not out.exists():
        reason = (done.stderr.strip().splitlines() or [f"it died with code {done.returncode}"])[-1]
        raise WorldError(f"{plan.map_path}: the traffic simulation failed: {reason}; choose another map or --seed")
    return load_traffic(out)
