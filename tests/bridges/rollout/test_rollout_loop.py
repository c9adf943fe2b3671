"""Closed loops of small scenes, in this process."""

from __future__ import annotations

import numpy as np
import pytest

from bridges.planner import Control, EgoState, Observation, Task
from bridges.rollout.closed_loop import ClosedLoop, LoopSettings
from bridges.rollout.drive import drive
from bridges.rollout.traffic import Traffic
from dcgen.instances import with_motion
from dcgen.scene_file import load_scene, save_scene
from dcgen.types import UNKNOWN, Command, Scene
from tests.bridges.rollout.small_worlds import CAR, DT_S, GRID, scene_of


class Wavering:
    """Drives by its seed alone."""

    def reset(self, task: Task) -> None:
        self._rng = np.random.default_rng(task.seed)

    def plan(self, observation: Observation) -> Control:
        return Control(float(self._rng.normal(0, 1)), float(self._rng.normal(0, 0.1)))

    def close(self) -> None:
        """Nothing is held."""


class Standing(Wavering):
    def plan(self, observation: Observation) -> Control:
        return Control(-8.0, 0.0)


def test_the_first_moment_is_the_scene_s_own() -> None:
    scene = with_motion(scene_of())
    seen = ClosedLoop(scene, LoopSettings(history=3)).observe()
    known = scene.labels[0] != UNKNOWN
    assert np.array_equal(seen.occupancy[-1][known], scene.labels[0][known])
    assert np.allclose(seen.flow_mps, scene.flow_mps[0], atol=0.02) and np.abs(seen.flow_mps).max() > 4
    assert seen.occupancy.shape == (3, *GRID.shape) and np.array_equal(seen.now_se3_ego[-1], np.eye(4))
    assert seen.ego.speed_mps == pytest.approx(0.9 / DT_S * np.cos(0.13))
    assert seen.agents.id.tolist() == [41] and seen.agents.pose[0, 0] > 7
    assert np.allclose(np.hypot(*np.diff(seen.route[:, :2], axis=0).T), 1.0, atol=0.05) and len(seen.route) > 40


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, again, other = (drive(scene_of(), Wavering(), LoopSettings(seed=seed)) for seed in (3, 3, 4))
    assert first.episode.ego.tobytes() == again.episode.ego.tobytes() != other.episode.ego.tobytes()
    assert first.scene.labels.tobytes() == again.scene.labels.tobytes()
    assert first.scene.layout.tobytes() == again.scene.layout.tobytes()
    assert first.scores == again.scores


def test_a_world_turned_by_a_right_angle_looks_the_same_from_within() -> None:
    loops = [ClosedLoop(scene_of(north_yaw=yaw), LoopSettings(agents="idm")) for yaw in (0.0, np.pi / 2)]
    for control in (Control(1.0, 0.05), Control(-0.5, -0.1), Control(0.3, 0.2)):
        for loop in loops:
            loop.advance(control)
    one, two = (loop.observe() for loop in loops)
    assert np.array_equal(one.occupancy, two.occupancy)
    for name in ("flow_mps", "layout", "route", "now_se3_ego"):
        assert np.allclose(getattr(one, name), getattr(two, name), atol=1e-5), name
    assert np.allclose(one.agents.pose, two.agents.pose) and np.allclose(
        one.agents.velocity_mps, two.agents.velocity_mps
    )


def test_history_is_what_was_seen_then() -> None:
    loop = ClosedLoop(scene_of(), LoopSettings(history=2))
    first = loop.observe()
    loop.advance(Control(2.0, 0.1))
    second = loop.observe()
    assert np.array_equal(second.occupancy[0], first.occupancy[1])
    back = second.now_se3_ego[0] @ [0, 0, 0, 1]
    assert -1.2 < back[0] < -0.7 and abs(back[1]) < 0.1


def test_a_route_that_bends_left_is_a_left_turn() -> None:
    for sign, command in ((1, Command.LEFT), (-1, Command.RIGHT), (0, Command.FORWARD)):
        scene = scene_of(frames=19, car=False)
        turn = scene.world_se3_ego.copy()
        for t in range(1, len(turn)):
            angle = sign * 0.06
            step = np.eye(4)
            step[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
            step[0, 3] = 0.9
            turn[t] = turn[t - 1] @ step
        loop = ClosedLoop(Scene(**{**vars(scene), "world_se3_ego": turn}), LoopSettings())
        seen = loop.observe()
        assert seen.command == command
        assert np.sign(np.round(seen.route[12, 1])) == sign and np.sign(np.round(seen.ego.yaw_rate_radps, 2)) == sign


def test_agents_that_nobody_disturbs_drive_as_recorded_though_they_would_yield() -> None:
    scene = with_motion(scene_of(frames=9))
    traffic = Traffic(scene.objects, 9, DT_S, yields=True)
    away = EgoState(0.0, 500.0, 0.0, 0.0)
    for t in range(9):
        assert np.allclose(traffic.state.pose[0], scene.objects.pose[0, t], atol=1e-6)
        if t < 8:
            traffic.advance(away, CAR)


def test_an_agent_yields_to_an_ego_in_its_way_where_a_replayed_one_drives_on() -> None:
    scene = with_motion(scene_of(frames=30))
    blocked = EgoState(27.0, 0.4, 0.0, 0.0)
    ends = {}
    for yields in (True, False):
        traffic = Traffic(scene.objects, 30, DT_S, yields)
        for _ in range(29):
            traffic.advance(blocked, CAR)
        ends[yields] = float(traffic.state.pose[0, 0])
    assert ends[False] == pytest.approx(8.2 + 1.1 * 29)
    assert 15 < ends[True] < 27 - 4 and traffic.state.valid[0]


def test_movers_keep_their_own_voxels_where_they_go() -> None:
    loop = ClosedLoop(scene_of(frames=12), LoopSettings(frames=4))
    counts = [int((loop.moments[0].seen.instances == 1).sum())]
    for _ in range(3):
        loop.advance(Control(0.0, 0.05))
        counts.append(int((loop.moments[-1].seen.instances == 1).sum()))
    assert min(counts) > 0.6 * max(counts) > 10


@pytest.mark.parametrize("agents", ["replay", "idm"])
def test_one_frame_nobody_and_the_unknown(agents: str, tmp_path) -> None:
    single = scene_of(frames=1)
    driven = drive(single, Standing(), LoopSettings(agents=agents))  # type: ignore[arg-type]
    assert len(driven.episode.ego) == driven.episode.wanted_frames == 16 and not driven.episode.failure
    assert driven.episode.agents.pose[0, -1, 0] == pytest.approx(8.2 + 15 * 1.1, abs=0.1)
    empty = drive(scene_of(car=False), Standing(), LoopSettings(agents=agents))  # type: ignore[arg-type]
    assert len(empty.episode.agents.id) == 0 and empty.episode.speed_mps[-1] == 0
    blind = scene_of()
    blind = Scene(**{**vars(blind), "labels": np.full_like(blind.labels, UNKNOWN)})
    lost = drive(blind, Wavering(), LoopSettings(agents=agents))  # type: ignore[arg-type]
    assert (lost.episode.unknown > 0).any() and not lost.episode.road.drivable[~lost.episode.road.known].any()
    back = load_scene(save_scene(driven.scene, tmp_path / "driven.h5"), motion=True)
    assert np.array_equal(back.labels, driven.scene.labels) and back.metadata["planner"] == "Standing"


def test_what_the_ego_s_box_meets_is_counted() -> None:
    class Left(Wavering):
        def plan(self, observation: Observation) -> Control:
            return Control(4.0, 0.5)

    driven = drive(scene_of(frames=16), Left(), LoopSettings(frames=16))
    assert driven.episode.touched[0, 1:].sum() == 0 and driven.episode.touched[:, 1].sum() > 0
    assert any(contact.kind == "static" for contact in driven.scores.contacts)
