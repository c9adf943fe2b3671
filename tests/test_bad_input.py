"""Bad input at the command: one line that names the file or field and a remedy, exit code 2, nothing left behind."""

from __future__ import annotations

import os
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.conftest import LIBRARY, Run, refused

CROSSROADS = (LIBRARY / "maps" / "crossroads.xodr").read_bytes()
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{c}: &{c} [{','.join(['*' + b] * 9)}]\n" for b, c in zip("abcdefgh", "bcdefghi", strict=True)
)
ENTITIES = (
    '<?xml version="1.0"?><!DOCTYPE routes [<!ENTITY a "' + "x" * 99 + '">'
    + "".join(f'<!ENTITY {c} "{f"&{b};" * 20}">' for b, c in zip("abcdefg", "bcdefgh", strict=True))
    + ']><routes><route id="0" town="Town01"><waypoint x="&h;" y="0" z="0"/></route></routes>'
)  # fmt: skip
ROUTE = '<routes><route id="0" town="Town01">{}</route></routes>'
POINT = '<waypoint pitch="0" roll="0" x="{}" y="{}" yaw="0" z="0"/>'
DTD = '<!DOCTYPE r SYSTEM "file:///etc/passwd">'


def through(*points: tuple[object, object]) -> bytes:
    return ROUTE.format("".join(POINT.format(*point) for point in points)).encode()


# Name of the file, its bytes, and what the line has to name beside it.
FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("s.yaml", b"", "empty"),
    "blank": ("s.yaml", b" \n\n", "empty"),
    "binary": ("s.yaml", bytes(range(256)) * 40, "binary"),
    "not text": ("s.yaml", b"frames: 8\nmap: \xff\xfe\xfd", "byte 15"),
    "a list": ("s.yaml", b"- 1\n- 2\n", "mapping"),
    "unknown key": ("s.yaml", b"map: crossroads\nframez: 8\n", "framez"),
    "wrong type": ("s.yaml", b"map: crossroads\nframes: eight\n", "frames"),
    "alias bomb": ("s.yaml", BOMB.encode(), "line 1"),
    "yaml tag": ("s.yaml", b"map: !!python/object/apply:os.system [id]\n", "line 1"),
    "huge yaml": ("s.yaml", b"map: crossroads\n" + b"# filler\n" * 300_000, "larger than"),
    "nan": ("s.yaml", b"map: crossroads\ntarget_speed_mps: .nan\n", "target_speed_mps"),
    "no such map": ("s.yaml", b"map: nowhere.xodr\n", "nowhere.xodr"),
    "entities": ("r.xml", ENTITIES.encode(), "entities"),
    "outside entity": ("r.xml", b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + through((0, 0)), "DTD"),
    "outside dtd": ("r.xml", DTD.encode() + through((0, 0), (9, 0)), "DTD"),
    "dtd in utf-16": ("r.xml", ('<?xml version="1.0" encoding="utf-16"?>' + DTD).encode("utf-16"), "binary"),
    "dtd far down": ("r.xml", b"<!-- " + b"x" * 70_000 + b" -->" + DTD.encode(), "64 kB"),
    "cut xml": ("r.xml", through((1, 2))[:-20], "line 1"),
    "no routes": ("r.xml", b"<routes></routes>", "<route>"),
    "nan route": ("r.xml", through(("nan", 0), (5, 5)), "waypoint[0]: x='nan'"),
    "inf route": ("r.xml", through((5, 5), (0, "-inf")), "waypoint[1]: y='-inf'"),
    "one point": ("r.xml", through((5, 5)), "2 waypoints"),
    "no length": ("r.xml", through((5, 5), (5, 5)), "0.00 m long"),
    "off the map": ("r.xml", through((9e5, 9e5), (9.1e5, 9e5)), "keypoint"),
    "other xml": ("r.xml", b"<html><body/></html>", "<html>"),
    "empty map": ("m.xodr", b"<OpenDRIVE></OpenDRIVE>", "<road>"),
    "map with a dtd": ("m.xodr", DTD.encode() + CROSSROADS.split(b"?>", 1)[-1], "DTD"),
    "map without lanes": ("m.xodr", b'<OpenDRIVE><road id="1" length="10"/></OpenDRIVE>', "road[0] (id 1)"),
    "cut map": ("m.xodr", CROSSROADS[:5000], "line "),
    "a lane twice": ("m.xodr", CROSSROADS.replace(b'<lane id="-2"', b'<lane id="-1"'), "lane -1"),
    "a map that carla refuses": ("m.xodr", CROSSROADS.replace(b'<laneSection s="0', b'<laneSection s="1e6'), "CARLA"),
    "a map that ends carla": ("m.xodr", CROSSROADS.replace(b'<lane id="-1"', b'<lane id="-7"'), "CARLA"),
    "bad poses": ("poses.txt", b"1 0 0 0 0 1 0 0 0 0 1\n1 0 0 0 0 1 0 0 0 0 1 0\n", "line 1"),
    "nan csv": ("log.csv", b"t,x,y,yaw\n0,0,0,0\n0.2,nan,0,0\n0.4,2,0,0\n", "line 3"),
    "csv of text": ("log.csv", b"t,x,y,yaw\n0,zero,0,0\n1,2,3,4\n", "line 2"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_bad_file(case: str, run: Run, tmp_path: Path) -> None:
    name, content, place = FILES[case]
    (tmp_path / name).write_bytes(content)
    flags = ["--map", "crossroads"] if name == "r.xml" else []
    began = time.process_time()
    fault = refused(run, tmp_path, "scenario", tmp_path / name, *flags, "--model", "none", "-o", tmp_path / "out.h5")
    assert name in fault and place in fault and time.process_time() - began < 5, fault


SPARSE = {
    "s.yaml": b"map: crossroads\n" + b"# filler\n" * 20_000,
    "r.xml": b"<routes>" + b"<!-- filler -->\n" * 9_000,
    "m.xodr": b"<OpenDRIVE>" + b"<!-- filler -->\n" * 9_000,
    "log.csv": b"t,x,y,yaw\n" + b"0.0,0.0,0.0,0.0\n" * 9_000,
    "scene.h5": b"\x89HDF\r\n\x1a\n",
}


@pytest.mark.parametrize("name", SPARSE)
def test_a_file_of_four_gigabytes_is_not_read(name: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(SPARSE[name])
    os.truncate(tmp_path / name, 1 << 32)
    began, held = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = ["inspect", tmp_path / name] if name == "scene.h5" else ["scenario", tmp_path / name]
    assert name in refused(run, tmp_path, *source)
    more_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) / 1024
    assert time.process_time() - began < 5 and more_mb < 500


# Every place where a command takes a file or a folder.
READERS: dict[str, list[object]] = {
    "scenario": ["scenario", "{}"],
    "scenario --map": ["scenario", "{routes}", "--map", "{}"],
    "scenario --edit": ["scenario", "straight", "--edit", "{}"],
    "scenario --model": ["scenario", "straight", "--model", "{}"],
    "inspect": ["inspect", "{}"],
    "render": ["render", "{}", "-o", "x.png"],
    "view": ["view", "{}"],
    "world build": ["world", "build", "{}"],
    "world preview": ["world", "preview", "{}"],
    "world check": ["world", "check", "{}"],
    "bench world": ["bench", "world", "{}"],
    "dataset build": ["dataset", "build", "--maps", "{}", "--clips", 3, "-o", "out"],
    "dataset import": ["dataset", "import", "{}", "--format", "carlasc", "-o", "out"],
    "dataset info": ["dataset", "info", "{}"],
    "dataset verify": ["dataset", "verify", "{}"],
    "dataset preview": ["dataset", "preview", "{}", "-o", "x.png"],
    "bench dataset": ["bench", "dataset", "{}"],
    "train": ["train", "vae", "{}", "-o", "run"],
    "train --vae": ["train", "dit", "{}", "-o", "run", "--vae", "{}"],
    "evaluate": ["evaluate", "--map", "{}"],
    "evaluate --model": ["evaluate", "--map", "{routes}", "--model", "{}"],
}
THINGS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "an empty file": lambda path: path.touch(),
    "text": lambda path: path.write_text("neither this nor that"),
    "noise": lambda path: path.write_bytes(np.random.default_rng(7).bytes(3000)),
    "an empty folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a circle of links": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_of_that_kind(reader: str, thing: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "routes.xml").write_bytes(through((0, 0), (9, 0)))
    THINGS[thing](tmp_path / "thing")
    known = {"{}": tmp_path / "thing", "{routes}": tmp_path / "routes.xml"}
    assert "thing" in refused(run, tmp_path, *(known.get(str(word), word) for word in READERS[reader]))


@pytest.mark.parametrize(
    ("flags", "places"),
    [
        (["--route-id", 12345], ["--route-id '12345'"]),
        (["--route-id", ""], ["--route-id"]),
        (["--routes-subset", "0,99"], ["--routes-subset '99'"]),
        (["--routes-subset", "0-99"], ["--routes-subset '99'"]),
        (["--routes-subset", "2-1"], ["--routes-subset", "swap"]),
        (["--routes-subset", "0", "--route-id", 0], ["--routes-subset", "--route-id"]),
        (["--route-id", 0], ["Town01", "--map"]),  # sparse, and no map to lay it on
        (["--route-id", 0, "--map", "nowhere"], ["nowhere"]),
        (["--route-id", 0, "--map", "crossroads"], ["keypoint", "--map"]),
        (["--route-id", 0, "--map", "crossroads", "--command", "up"], ["command", "up"]),
    ],
)
def test_flags_that_ask_for_what_is_not_there(
    flags: list[object], places: list[str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DCGEN_MAPS", "CARLA_ROOT"):
        monkeypatch.delenv(name, raising=False)
    route = through((1000, 1000), (1200, 1000), (1200, 1300)).decode()
    routes = "".join(route[8:-9].replace('id="0"', f'id="{k}"') for k in range(3))
    (tmp_path / "r.xml").write_text(f"<routes>{routes}</routes>")
    fault = refused(run, tmp_path, "scenario", tmp_path / "r.xml", *flags, "--model", "none")
    assert all(place in fault for place in places), fault


def test_a_bad_checkpoint(run: Run, untrained: Path, tmp_path: Path) -> None:
    whole = (untrained / "model.safetensors").read_bytes()
    embed = re.compile(rb'\\"embed\\": 16')
    made = {
        "cut": whole[: len(whole) // 2],
        "head": (1 << 60).to_bytes(8, "little") + whole[8:],
        "pickle": b"\x80\x04\x95" + whole[3:5000],
        "other": embed.sub(b'\\\\"embed\\\\": 32', whole, count=1),
        "noise": whole[:-4000] + np.random.default_rng(1).bytes(4000),
    }
    assert made["other"] != whole
    for name, content in made.items():
        (tmp_path / f"{name}.safetensors").write_bytes(content)
        for arguments in (
            ["scenario", "straight", "--model", tmp_path / f"{name}.safetensors", "-o", tmp_path / "x.h5"],
            ["train", "dit", tmp_path, "-o", tmp_path / "run", "--vae", tmp_path / f"{name}.safetensors"],
        ):
            assert f"{name}.safetensors" in refused(run, tmp_path, *arguments)


SCENES: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:3000]),
    "changed voxels": lambda path: _overwrite(path, "occupancy/labels"),
    "another file behind": lambda path: _edit(path, lambda f: _link(f, h5py.ExternalLink("/etc/passwd", "/"))),
    "link to itself": lambda path: _edit(path, lambda f: _link(f, h5py.SoftLink("/occupancy/labels"))),
    "unknown class": lambda path: _edit(path, lambda f: f["occupancy/labels"].__setitem__(..., 77)),
    "no finite pose": lambda path: _edit(path, lambda f: f["frames/world_se3_ego"].__setitem__(..., np.nan)),
    "terabytes": lambda path: _edit(path, lambda f: f["occupancy/labels"].resize(1 << 33, axis=0)),
    "another format": lambda path: _edit(path, lambda f: f.attrs.update(format="other")),
}


def _edit(path: Path, change: Callable[[h5py.File], object]) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def _overwrite(path: Path, place: str) -> None:
    with h5py.File(path, "r") as file:
        at = file[place].id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[at : at + 20] = bytes(20)
    path.write_bytes(data)


def _link(file: h5py.File, link: object) -> None:
    del file["occupancy/labels"]
    file["occupancy/labels"] = link


@pytest.mark.parametrize("fault", SCENES)
def test_a_tampered_scene(fault: str, run: Run, scene_path: Path, tmp_path: Path) -> None:
    SCENES[fault](scene_path)
    output = ["-o", tmp_path / "x.gif"]
    for arguments in (["inspect", scene_path], ["render", scene_path, *output], ["view", scene_path]):
        assert "scene.h5" in refused(run, tmp_path, *arguments)
    assert "scene.h5" in refused(run, tmp_path, "scenario", "straight", "--edit", scene_path, "-o", tmp_path / "y.h5")
