"""The scenario file: what is refused, in one line that names file, field and remedy; what the page must document."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from dcgen.errors import DcgenError, ScenarioError
from dcgen.types import carlasc_grid, nano_grid
from scenarios.inputs import kind_of, read_scenarios
from scenarios.schema import Scenario, _find_part, load_scenario

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
FULL = """
map: crossroads
route: {keypoints: [[0, 0], [1e2, 5.5, 1]], frame: carla}
speed_profile: [{s_m: 0, speed_mps: 5}, {s_m: 30, speed_mps: 8.5}]
frames: 24
dt_s: 0.1
agents:
  - {class: car, id: 4, follow: {ahead_m: 12, lane_offset: -1}}
  - class: pedestrian
    size_m: [0.5, 0.6, 1.8]
    keyframes: [{t_s: 0, x: 1, y: 2}, {t_s: 2.5, x: 4, y: 2, yaw_deg: 90}]
traffic: {vehicles: 3, parked: 2, seed: 9}
grid: carlasc
seed: 12
metadata: {author: someone, tags: [a, 1, true, null], deep: {er: 1.5}}
"""


def load(tmp_path: Path, text: str | bytes) -> Scenario:
    path = tmp_path / "s.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_scenario(path)


def test_a_full_file_is_read_as_written(tmp_path: Path) -> None:
    scenario = load(tmp_path, FULL)
    assert scenario.route is not None and scenario.route.keypoints == ((0, 0), (100.0, 5.5, 1))
    assert scenario.agents[0].class_ == "car" and scenario.agents[1].size_m == (0.5, 0.6, 1.8)
    assert scenario.grid_spec == carlasc_grid() and scenario.seed == 12 and scenario.frames == 24
    assert scenario.metadata == {"author": "someone", "tags": ["a", 1, True, None], "deep": {"er": 1.5}}
    assert scenario.text == FULL and scenario.source == tmp_path / "s.yaml"
    assert load(tmp_path, "seed: 1").grid_spec == nano_grid()


BAD = {
    "": r"is empty; ",
    "frams: 8": r"frams: unknown key; did you mean 'frames'\?",
    '"fram\\nes": 8': r"fram es: unknown key; ",
    '"fram\\nes": .nan': r"fram es: nan is not a finite number; ",
    "zzzzzz: 8": r"zzzzzz: unknown key; use one of map, ",
    "agents: [{class: car, keyframe: []}]": r"agents\[0\].keyframe: unknown key; did you mean 'keyframes'\?",
    "agents: [{class: car, follow: {ahead: 3}}]": r"agents\[0\].follow.ahead: unknown key; did you mean 'ahead_m'\?",
    "agents: [{class: cow, keyframes: [{t_s: 0, x: 1, y: 2}]}]": r"agents\[0\].class: .*'pedestrian'.*got 'cow'",
    "agents: [{class: car}]": r"agents\[0\]: needs either keyframes or follow; ",
    "agents: [{class: car, keyframes: [{t_s: 0, x: 1}]}]": r"agents\[0\].keyframes\[0\].y: is missing; add it",
    "agents: [{class: car, keyframes: [{t_s: 1, x: 1, y: 0}, {t_s: 1, x: 1, y: 0}]}]": r"t_s must grow",
    "agents: [{class: pedestrian, follow: {ahead_m: 2}}]": r"agents\[0\]: a pedestrian follows no lanes; ",
    "frames: '8'": r"frames: .*integer.*got '8'",
    "frames: 8.5": r"frames: .*integer",
    "frames: yes": r"frames: .*integer",
    "frames: 0": r"frames: .*greater than or equal to 1",
    "seed: -1": r"seed: .*greater than or equal to 0",
    "seed: 99999999999999999999999": r"seed: the number is too large; ",
    "dt_s: .nan": r"dt_s: nan is not a finite number; ",
    "route: {keypoints: [[0, 0], [1, .inf]], frame: world}": r"route.keypoints\[1\]\[1\]: inf is not a finite number; ",
    "route: {keypoints: [[0, 0], [1, 1e9]], frame: world}": r"route.keypoints\[1\]\[1\]: .*less than or equal",
    "route: {keypoints: [[0, 0], [1, 1]]}": r"route: keypoints need their frame; ",
    "route: {keypoints: [[0, 0]], frame: world}": r"route.keypoints: .*at least 2",
    "route: {keypoints: [[0], [1]], frame: world}": r"route.keypoints\[0\]: .*at least 2",
    "route: {}": r"route: needs either keypoints or file; ",
    "goal: {x: 1, y: 2}": r"scenario: goal needs a start; ",
    "command: lft": r"command: .*'left' or 'right', got 'lft'",
    "grid: nanoo": r"grid: no grid is called 'nanoo'; take nano, carlasc, wide",
    "grid: {shape: [4, 4], voxel_m: [1, 1, 1], origin_m: [0, 0, 0]}": r"grid.shape\[2\]: is missing",
    "inpaint: {boxes: [{centre: [0,0,0], size: [1,1,1], frames: [3, 1]}]}": r"inpaint.boxes\[0\]: frames must be",
    "edit: {remove: [1]}\noutpaint: {along_m: 3}": r"edit and outpaint exclude each other; ",
    "frames: 8\nframes: 9": r"line 2: key 'frames' is given twice; ",
    "metadata: {a: 1, a: 2}": r"key 'a' is given twice; ",
    "metadata: {a: 2001-01-01}": r"metadata.a: date is not allowed here; ",
    "metadata: {1: a}": r"metadata: key 1 is no text; ",
    "map: !!python/object/apply:os.system [x]": r"line 1: .*tag",
    "a: &x [1]\nb: *x": r"line 1: anchors and aliases .* are not allowed; ",
    "- a\n- b": r"holds no mapping; ",
    "just text": r"holds no mapping; ",
    "a: [1, 2": r"line \d: ",
    "a: b: c": r"line 1: ",
    "[" * 5000: r"nested deeper than 24 levels; ",
    "a: " + "{a: " * 5000: r"nested deeper than 24 levels; ",
    b"\xff\xfe\x00\x01": r"byte 0: not UTF-8 text; ",
    b"\x00\x00\x00": r"(special|control) characters are not allowed",
    "seed: " + "9" * 5000: r"pass a YAML file that can be read|too large",
    "#" + "x" * 1_100_000: r"larger than 1000 kB; ",
}


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_what_is_wrong_is_refused_in_one_line_that_says_where(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(tmp_path / "s.yaml")), message
    assert re.search(BAD[text], message), message
    assert len(message) < 500


def test_a_gigabyte_of_aliases_is_refused_at_once(tmp_path: Path) -> None:
    lines = ['a0: &a0 ["lol","lol","lol","lol","lol","lol","lol","lol","lol"]']
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    started = time.perf_counter()
    with pytest.raises(ScenarioError, match="anchors and aliases"):
        load(tmp_path, "\n".join(lines))
    assert time.perf_counter() - started < 1.0


PIECES = [b"", b"[", b"}", b": ", b"\n", b"-", b"&a", b"!!", b"1e999", b"\x00", b"\xc3", b"null", b"'", b"\t", b"? "]
PIECES += [b"<<: ", b"~", b"2020-01-01"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_file_brings_a_scenario_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    raw = bytearray(FULL.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        piece = data.draw(st.sampled_from(PIECES))
        raw[at : at + data.draw(st.integers(0, 9))] = piece
    try:
        load(tmp_path, bytes(raw))
    except DcgenError as error:
        assert "\n" not in str(error) and str(error).startswith(str(tmp_path))


def parts(model: type[BaseModel]) -> set[type[BaseModel]]:
    found = {model}
    for field in model.model_fields.values():
        inner = _find_part(field.annotation)
        if inner is not None and inner not in found:
            found |= parts(inner)
    return found


def test_every_field_is_documented() -> None:
    page = re.sub(r"```.*?```", "", (ROOT / "docs" / "scenario.md").read_text(), flags=re.DOTALL)
    words = {word for code in re.findall(r"`([^`]*)`", page) for word in re.findall(r"[a-z_]+", code)}
    names = {field.alias or name for part in parts(Scenario) for name, field in part.model_fields.items()}
    assert len(names) > 50
    assert not names - words, f"docs/scenario.md lacks {sorted(names - words)}"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_scenarios(path: Path) -> None:
    assert load_scenario(path).seed > 0


def test_files_are_told_apart_by_content(tmp_path: Path, shared_data: Path) -> None:
    def kind(text: str, name: str = "x.yaml") -> str:
        (tmp_path / name).write_text(text)
        return kind_of(tmp_path / name)

    assert kind("seed: 1", "a.xml") == "scenario"
    assert kind("1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 1 0 1 0 0 0 0 1 0\n") == "trajectory"
    assert kind("t,x,y,yaw\n0,0,0,0\n") == kind("0,0,0,0\n1,1,0,0\n") == "trajectory"
    assert kind("<?xml version='1.0'?>\n<!-- c -->\n<routes/>", "a.csv") == "routes"
    assert kind("<?xml version='1.0'?><OpenDRIVE/>") == "map"
    assert kind_of(shared_data / "maps" / "Town01.xodr") == "map"
    assert kind_of(shared_data / "routes" / "lb2_devtest.xml") == "routes"
    for raw, why in ((b"", "empty"), (b"\x89HDF\r\n", "--edit"), (b"PK\x03\x04", "zip"), (b"a\x00b", "binary"),
                     (b"\x80\x04x", "pickle"), (b"<html></html>", "<html>")):  # fmt: skip
        (tmp_path / "bad").write_bytes(raw)
        with pytest.raises(ScenarioError, match=why):
            kind_of(tmp_path / "bad")
    with pytest.raises(ScenarioError, match="cannot be read"):
        kind_of(tmp_path / "absent")
    with pytest.raises(ScenarioError, match="folder"):
        kind_of(tmp_path)


def test_flags_choose_routes_and_replace_fields(tmp_path: Path, shared_data: Path) -> None:
    routes, town = shared_data / "routes" / "lb1_devtest.xml", str(shared_data / "maps" / "Town01.xodr")
    chosen = read_scenarios(routes, routes_subset="0-1,3", map=town, overrides={"frames": 9, "seed": None})
    assert [one.route.id for one in chosen if one.route] == ["0", "1", "3"]
    assert {one.frames for one in chosen} == {9} and {one.map for one in chosen} == {town}
    with pytest.raises(ScenarioError, match="--route-id '77'"):
        read_scenarios(routes, route_id="77")
    (tmp_path / "s.yaml").write_text("frames: 12\nmap: avenue")
    (one,) = read_scenarios(tmp_path / "s.yaml", overrides={"seed": 5}, scene="old.h5")
    assert (one.frames, one.seed, one.map) == (12, 5, "avenue") and one.scene_path == Path("old.h5").absolute()
    with pytest.raises(ScenarioError, match="--routes-subset chooses from a route file"):
        read_scenarios(tmp_path / "s.yaml", routes_subset="1")
    with pytest.raises(ScenarioError, match="--route-id chooses from a route file"):
        read_scenarios(town, route_id="1")


def test_a_model_s_grid_and_clock_stand_in_for_what_is_not_said(tmp_path: Path) -> None:
    bare = load(tmp_path, "map: crossroads\n").fitted(carlasc_grid(), 0.1)
    assert bare.grid_spec == carlasc_grid() and bare.dt_s == 0.1 and bare.place("x") == tmp_path / "x"
    said = load(tmp_path, FULL).fitted(nano_grid(), 0.2)
    assert said.grid_spec == carlasc_grid() and said.dt_s == 0.1
    half = load(tmp_path, "map: crossroads\ndt_s: 0.2\n").fitted(carlasc_grid(), 0.1)  # 0.2 is said, if as usual
    assert half.grid_spec == carlasc_grid() and half.dt_s == 0.2
    edited = load(tmp_path, "scene: a.h5\noutpaint: {along_m: 20}\n").fitted(carlasc_grid(), 0.1)
    assert edited.grid is None and edited.dt_s == 0.2  # the scene's stand
