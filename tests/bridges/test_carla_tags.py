"""Both numberings of CARLA's tags, frames of bodies against CARLA's own matrices, and boxes as tracks."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bridges.carla.capture import Body, Frame, body_of, tracks_of
from bridges.carla.tags import class_table, release
from dcgen.errors import CarlaError
from dcgen.types import UNKNOWN, Semantics
from scenarios.frames import carla_transform_to_world, carla_yaw_to_world

OLD = "x building barrier other pedestrian pole road road sidewalk vegetation vehicle barrier pole other ground other \
other barrier pole other other other ground"
NEW = "x road sidewalk building barrier barrier pole pole pole vegetation ground other pedestrian pedestrian vehicle \
vehicle vehicle vehicle vehicle bicycle other other other other road ground other other barrier"


@pytest.mark.parametrize(("versions", "names"), [(("0.9.6", "0.9.13"), OLD), (("0.9.14", "0.9.16", "0.10.0"), NEW)])
def test_a_tag_means_what_its_version_says(versions: tuple[str, ...], names: str) -> None:
    want = [UNKNOWN if name == "x" else Semantics[name.upper()] for name in names.split()]
    for version in versions:
        table = class_table(version)
        assert table[: len(want)].tolist() == want and (table[len(want) :] == Semantics.OTHER).all()


def test_versions_are_compared_as_numbers() -> None:
    assert release("0.9.16-3-gabc") == (0, 9, 16) > release("0.9.9") and release("0.10") == (0, 10, 0)
    with pytest.raises(CarlaError, match="no version of CARLA"):
        release("nightly")


def test_poses_of_bodies_are_carlas_own_matrices_mirrored() -> None:
    carla = pytest.importorskip("carla")
    flip = np.diag([1.0, -1.0, 1.0, 1.0])
    rng = np.random.default_rng(2)
    for x, y, z, pitch, yaw, roll in np.column_stack([rng.normal(0, 90, (9, 3)), rng.uniform(-170, 170, (9, 3))]):
        transform = carla.Transform(carla.Location(x, y, z), carla.Rotation(pitch, yaw, roll))
        pose = carla_transform_to_world(x, y, z, pitch, yaw, roll)
        assert pose == pytest.approx(flip @ np.array(transform.get_matrix()) @ flip, abs=1e-4)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    level = carla_transform_to_world(0, 0, 0, 0, 37.0, 0)
    assert np.arctan2(level[1, 0], level[0, 0]) == pytest.approx(float(carla_yaw_to_world(37.0)))


def actor(kind: str, attributes: dict[str, str], extent: tuple[float, float, float]) -> SimpleNamespace:
    x, y, z = extent
    box = SimpleNamespace(location=SimpleNamespace(x=0.1, y=0.2, z=0.3), extent=SimpleNamespace(x=x, y=y, z=z))
    return SimpleNamespace(id=5, type_id=kind, attributes=attributes, bounding_box=box)


@pytest.mark.parametrize(
    ("kind", "attributes", "class_id"),
    [
        ("vehicle.audi.tt", {"base_type": "car"}, Semantics.VEHICLE),
        ("vehicle.harley", {"base_type": "motorcycle"}, Semantics.VEHICLE),
        ("vehicle.some.bike", {"base_type": "bicycle"}, Semantics.BICYCLE),
        ("vehicle.bh.crossbike", {}, Semantics.BICYCLE),
        ("walker.pedestrian.0003", {}, Semantics.PEDESTRIAN),
    ],
)
def test_road_users_are_told_by_their_type(kind: str, attributes: dict[str, str], class_id: int) -> None:
    body = body_of(actor(kind, attributes, (1.5, 0.0, 0.7)))
    assert body is not None and body.class_id == class_id
    assert body.size_m == pytest.approx((3.0, 0.3, 1.4))  # a flat box is made to stand
    assert body.foot_m == pytest.approx([0.1, 0.2, -0.4])
    assert body_of(actor("traffic.traffic_light", {}, (1, 1, 1))) is None


def test_tracks_keep_who_comes_near_and_say_when() -> None:
    bodies = {n: Body(n, Semantics.VEHICLE, (4.0 + n, 2.0, 1.5), np.zeros(3)) for n in (3, 8, 9)}
    there = [{3: 1.0, 8: 90.0}, {3: 2.0, 8: 60.0, 9: 500.0}, {8: 30.0, 9: 500.0}, {3: 5.0, 8: 5.0}]
    frames = [Frame(np.eye(4), (), {n: (x, -1.0, 0.5, 0.2, n + 0.5) for n, x in each.items()}) for each in there]
    tracks = tracks_of(frames, dict(bodies), 40.0)
    assert tracks.id.tolist() == [3, 8] and tracks.size_m[:, 0] == pytest.approx([7.0, 12.0])
    assert tracks.valid.tolist() == [[True, True, False, True], [True] * 4]
    assert tracks.pose[0, :, 0].tolist() == [1.0, 2.0, 2.0, 5.0]
    assert tracks.z_m == pytest.approx(0.5) and tracks.speed_mps[1] == pytest.approx(8.5)
    assert len(tracks_of(frames, dict(bodies), 0.5).id) == 0
