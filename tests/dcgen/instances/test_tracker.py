"""Found objects keep their names: apart, touching, cut by the grid's edge, out of sight for a while."""

from dataclasses import replace

import numpy as np
import pytest

from dcgen.dataset.motion import instances_of, owners
from dcgen.eval.tracking import tracking
from dcgen.instances.scene_motion import InstanceFinder, flow_mps
from dcgen.types import AgentTracks, GridSpec, Semantics, pose_matrix
from tests.dcgen.dataset.driven import CAR, DT, GRID, WALKER, stamped, tracks

FRAMES = 12
STILL = np.broadcast_to(np.eye(4), (FRAMES, 4, 4))
TIMES = DT * np.arange(FRAMES)


def found_in(labels, grid=GRID, poses=STILL):
    finder = InstanceFinder(AgentTracks.empty(len(labels)), grid, TIMES[: len(labels)], poses)
    instances = finder.instances(labels)
    return instances, finder.objects()


def judged(agents, grid=GRID, poses=STILL):
    labels = stamped(agents, grid, poses)
    true = instances_of(owners(labels, agents, grid, poses))
    instances, objects = found_in(labels, grid, poses)
    return true, instances, objects, tracking(true, instances)


def test_who_drives_apart_from_others_is_followed():
    agents = tracks((*CAR, 0, 4, 0.2, 4.0, 0.1), (*CAR, -3, -4, 3.0, 3.0, 0), (*WALKER, 6, 0, 1, 1.2, 0), frames=FRAMES)
    true, instances, objects, counts = judged(agents)
    assert counts.idf1 == 1.0 and counts.switched == 0 and len(objects.id) == 3
    for row in range(3):
        name = instances[0][true[0] == row + 1][0] - 1
        assert objects.class_id[name] == agents.class_id[row] and objects.valid[name].all()
        assert np.abs(objects.pose[name, :, :2] - agents.pose[row, :, :2]).max() < 0.45
        assert np.abs(objects.size_m[name] - agents.size_m[row]).max() < 0.85
        turned = (objects.pose[name, :, 2] - agents.pose[row, :, 2] + np.pi) % (2 * np.pi) - np.pi
        assert np.abs(turned).max() < 0.25


def test_cars_that_pass_so_near_that_they_touch_keep_their_names():
    agents = tracks((*CAR, 0, 1.0, 0, 4.0, 0), (*CAR, 0, -1.0, np.pi, 4.0, 0), frames=FRAMES)
    true, instances, _, counts = judged(agents)
    assert counts.idf1 == 1.0 and set(np.unique(instances)) == {0, 1, 2}
    from scipy import ndimage

    pieces = [ndimage.label(frame > 0, np.ones((3, 3, 3)))[1] for frame in true]
    assert min(pieces) == 1 and pieces[0] == 2  # the case is what it says


def test_walkers_meet_and_part():
    walkers = [(*WALKER, x, y, yaw, 1.3, 0) for x, y, yaw in ((0, 0.3, 0), (0, -0.3, np.pi), (4, 4, 1.5))]
    _, instances, objects, counts = judged(tracks(*walkers, frames=FRAMES))
    assert counts.idf1 > 0.9 and len(objects.id) == 3 and set(np.unique(instances)) == {0, 1, 2, 3}


def test_the_grid_s_edge_neither_stretches_nor_slows_who_comes_in():
    speed = 5.0
    agents = tracks((*CAR, -5.0, 1.0, 0, speed, 0), frames=FRAMES)
    true, instances, objects, counts = judged(agents)
    assert (true > 0)[:, 0].any() and counts.idf1 == 1.0
    flow = flow_mps(instances, objects, GRID, TIMES, STILL)
    error = np.linalg.norm(flow[true > 0].astype(float) - [speed, 0, 0], axis=-1)
    assert np.median(error) < 0.4 and error.mean() < 0.6
    assert abs(objects.size_m[0, 0] - 4.4) < 0.8


def test_who_stands_does_so_exactly_though_the_grid_turns():
    agents = tracks((*CAR, 1, 5, 0.4, 0, 0), (*CAR, 0, -5, 1.2, 0, 0), (*WALKER, 5, 0, 0, 0, 0), frames=FRAMES)
    poses = np.stack([pose_matrix(0.15 * t, 0.02 * t, 0, 0.02 * t) for t in range(FRAMES)])
    _, instances, objects, counts = judged(agents, poses=poses)
    assert counts.idf1 == 1.0
    assert not flow_mps(instances, objects, GRID, TIMES, poses).any() and (instances > 0).any()
    assert (objects.pose == objects.pose[:, :1]).all() and not objects.speed_mps.any()


def test_who_is_not_seen_for_a_moment_keeps_the_name_and_is_not_there_meanwhile():
    agents = tracks((*CAR, 0, 1, 0.3, 3.0, 0), frames=FRAMES)
    valid = np.ones((1, FRAMES), bool)
    valid[0, 5:7] = False
    _, instances, objects, _ = judged(replace(agents, valid=valid))
    assert set(np.unique(instances)) == {0, 1} and np.array_equal(objects.valid, valid)


def test_pieces_of_one_object_stay_one():
    agents = tracks((*CAR, 0, 1, 0, 2.0, 0), frames=FRAMES)
    labels = stamped(agents, GRID, STILL)
    whole = labels.copy()
    for t in range(4, FRAMES, 2):  # a gap of two columns, which comes and goes
        middle = round((agents.pose[0, t, 0] - GRID.origin_m[0]) / GRID.voxel_m[0])
        labels[t, middle - 1 : middle + 1][labels[t, middle - 1 : middle + 1] == Semantics.VEHICLE] = 0
    instances, objects = found_in(labels)
    assert len(objects.id) == 1 and np.array_equal(instances > 0, labels == Semantics.VEHICLE)
    assert (labels != whole).any()


def test_classes_do_not_mix():
    labels = np.zeros((3, *GRID.shape), np.uint8)
    labels[:, 5, 5, 1:4], labels[:, 6, 5, 1:3] = Semantics.PEDESTRIAN, Semantics.BICYCLE
    instances, objects = found_in(labels)
    assert set(np.unique(instances)) == {0, 1, 2} and sorted(objects.class_id) == [4, 11]
    assert np.array_equal(objects.class_id[instances[labels > 3] - 1], labels[labels > 3])


@pytest.mark.parametrize("angle", [0.5, -2.0])
def test_where_the_world_s_axes_point_does_not_matter(angle):
    grid = GridSpec((24, 26, 6), (0.5, 0.5, 0.6), (-6, -6.5, -0.6))
    agents = tracks((*CAR, 1, 2, 0.4, 4.0, 0.7), (*WALKER, -3, -2, 1, 2.0, 0), frames=FRAMES)
    labels = stamped(agents, grid, STILL)
    moved = np.broadcast_to(pose_matrix(30, -50, 2.0, angle), STILL.shape)
    results = [found_in(labels, grid, poses) for poses in (STILL, moved)]
    assert np.array_equal(results[0][0], results[1][0])
    flows = [flow_mps(*result, grid, TIMES, poses) for result, poses in zip(results, (STILL, moved), strict=True)]
    assert np.allclose(flows[0], flows[1], atol=0.02) and flows[0].any()
    assert np.allclose(results[1][1].pose[0, :, :2], (results[0][1].pose[0, :, :2] @ moved[0][:2, :2].T) + [30, -50])
