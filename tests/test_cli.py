"""The command line: what it prints, what it leaves, and one line with exit code 2 for everything a user can mend."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cli
from dcgen.scene_file import load_scene, save_scene
from dcgen.types import Scene

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "scenarios" / "library"
Run = Callable[..., "Result"]


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit {self.code}\n{self.out}\n{self.err}"

    @property
    def fault(self) -> str:
        """The one line of error; fails where there is another number of them."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert self.code == 2 and len(lines) == 1 and self.err.endswith(lines[0] + "\n"), self
        assert "Traceback" not in self.err and not self.out, self
        return lines[0]


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """Runs a command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["dcgen", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return Result(code if isinstance(code, int) else int(bool(code)), *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the shipped sizes that has learnt nothing."""
    import torch

    from dcgen.checkpoint import Model, save_model
    from dcgen.config import nano
    from dcgen.dit.model import Dit
    from dcgen.vae.model import Vae

    torch.manual_seed(3)
    config = nano()
    size = config.hex_shape.size
    model = Model(config, Vae(config), Dit(config), torch.zeros(size), torch.ones(size))
    return save_model(model, tmp_path_factory.mktemp("model")).parent


@pytest.fixture
def scene_path(scene: Scene, tmp_path: Path) -> Path:
    return save_scene(scene, tmp_path / "scene.h5")


def test_help_and_version(run: Run) -> None:
    for arguments in (["--help"], ["scenario", "--help"], ["world", "--help"], ["train", "--help"]):
        result = run(*arguments)
        assert result.code == 0 and "--help" in result.out
    assert run("--version").out.startswith("dcgen 0.")


@pytest.mark.parametrize("wrong", [["nope"], ["scenario"], ["render", "x.h5"], ["scenario", "x", "--frames", "many"]])
def test_wrong_use_is_one_line(wrong: list[str], run: Run) -> None:
    assert "See dcgen --help" in run(*wrong).fault


def test_a_library_scenario_becomes_a_scene_and_a_picture(run: Run, untrained: Path, tmp_path: Path) -> None:
    quick = ["--model", untrained, "--frames", 9, "--steps", 1, "--guidance", 1, "--json"]
    result = run(
        "scenario", LIBRARY / "left_turn.yaml", *quick, "--picture", tmp_path / "a.png", "-o", tmp_path / "a.h5"
    )
    assert result.code == 0, result
    summary = json.loads(result.out)
    assert summary["scene"] == str(tmp_path / "a.h5") and summary["frames"] == 9 and summary["generate_s"] > 0
    assert (tmp_path / "a.png").stat().st_size > 10_000
    first = load_scene(tmp_path / "a.h5")
    assert first.labels.shape == (9, 64, 64, 8) and first.scenario == (LIBRARY / "left_turn.yaml").read_text()
    assert first.metadata["name"] and first.model == "nano" and len(first.model_sha256) == 64
    assert run("scenario", "left_turn", *quick, "-o", tmp_path / "b.h5").code == 0
    again = load_scene(tmp_path / "b.h5")
    assert np.array_equal(first.labels, again.labels)
    other = run("scenario", "left_turn", *quick, "--seed", first.seed + 1, "-o", tmp_path / "c.h5")
    assert other.code == 0 and not np.array_equal(load_scene(tmp_path / "c.h5").labels, first.labels)
    assert "\x1b" not in result.err and "%" not in result.err  # no bar in a pipe


def test_several_routes_make_several_scenes(run: Run, untrained: Path, shared_data: Path, tmp_path: Path) -> None:
    routes, town = shared_data / "routes" / "lb1_training.xml", shared_data / "maps" / "Town01.xodr"
    result = run(
        "scenario", routes, "--map", town, "--routes-subset", "0,2", "--frames", 8, "--steps", 1, "--guidance", 1,
        "--model", untrained, "-o", tmp_path / "route.h5",
    )  # fmt: skip
    assert result.code == 0, result
    assert result.out.split() == [str(tmp_path / f"route_{k}.h5") for k in (0, 2)]
    assert load_scene(tmp_path / "route_2.h5").metadata["name"] == "Lb1 training, route 2"


def test_inspect(run: Run, scene: Scene, scene_path: Path) -> None:
    table = run("inspect", scene_path)
    assert table.code == 0 and "Town01" in table.out and "/occupancy/labels" in table.out
    summary = json.loads(run("inspect", scene_path, "--json").out)
    assert summary["frames"] == 3 and summary["commands"] == ["LEFT"] and len(summary["agents"]) == 2
    assert sum(summary["class_shares"].values()) == pytest.approx(1.0)
    labels = scene.labels
    occupied = (labels > 0) & (labels < 255)
    assert summary["class_shares"]["road"] == pytest.approx((labels == 6).sum() / occupied.sum())
    assert summary["datasets"]["/occupancy/labels"]["shape"] == [3, 11, 13, 7]


def test_render(run: Run, scene_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "x.png"
    assert run("render", scene_path, "-o", output, "--width", 400, "--frame", -1).out.strip() == str(output)
    assert "x.bmp" in run("render", scene_path, "-o", tmp_path / "x.bmp").fault
    assert "frames 0 to 2" in run("render", scene_path, "-o", output, "--frame", 7).fault


def test_a_window_needs_a_display(run: Run, scene_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform.startswith("linux"):
        assert "dcgen render" in run("view", scene_path).fault


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
HOSTILE: dict[str, tuple[str, bytes]] = {
    "empty": ("s.yaml", b""),
    "blank": ("s.yaml", b" \n\n"),
    "binary": ("s.yaml", bytes(range(256)) * 40),
    "not text": ("s.yaml", b"frames: 8\nmap: \xff\xfe\xfd"),
    "a list": ("s.yaml", b"- 1\n- 2\n"),
    "unknown key": ("s.yaml", b"map: crossroads\nframez: 8\n"),
    "wrong type": ("s.yaml", b"map: crossroads\nframes: eight\n"),
    "alias bomb": ("s.yaml", BOMB.encode()),
    "yaml tag": ("s.yaml", b"map: !!python/object/apply:os.system [id]\n"),
    "huge yaml": ("s.yaml", b"map: crossroads\n" + b"# filler\n" * 300_000),
    "nan": ("s.yaml", b"map: crossroads\ntarget_speed_mps: .nan\n"),
    "no such map": ("s.yaml", b"map: nowhere.xodr\n"),
    "entities": ("r.xml", ENTITIES.encode()),
    "outside entity": (
        "r.xml",
        b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><routes><route id="&x;" town="T"/></routes>',
    ),
    "cut xml": ("r.xml", ROUTE.format(POINT.format(1, 2))[:-20].encode()),
    "no routes": ("r.xml", b"<routes></routes>"),
    "nan route": ("r.xml", ROUTE.format(POINT.format("nan", 0) + POINT.format(5, 5)).encode()),
    "inf route": ("r.xml", ROUTE.format(POINT.format("inf", 0) + POINT.format(5, 5)).encode()),
    "one point": ("r.xml", ROUTE.format(POINT.format(5, 5)).encode()),
    "no length": ("r.xml", ROUTE.format(POINT.format(5, 5) * 2).encode()),
    "off the map": ("r.xml", ROUTE.format(POINT.format(9e5, 9e5) + POINT.format(9.1e5, 9e5)).encode()),
    "other xml": ("r.xml", b"<html><body/></html>"),
    "empty map": ("m.xodr", b"<OpenDRIVE></OpenDRIVE>"),
    "map without lanes": ("m.xodr", b'<OpenDRIVE><header/><road id="1" length="10" junction="-1"/></OpenDRIVE>'),
    "cut map": ("m.xodr", (LIBRARY / "maps" / "crossroads.xodr").read_bytes()[:5000]),
    "bad poses": ("poses.txt", b"1 0 0 0 0 1 0 0 0 0 1\n1 0 0 0 0 1 0 0 0 0 1 0\n"),
    "nan csv": ("log.csv", b"t,x,y,yaw\n0,0,0,0\n0.2,nan,0,0\n0.4,2,0,0\n"),
    "csv of text": ("log.csv", b"t,x,y,yaw\n0,zero,0,0\n1,2,3,4\n"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_bad_input_is_one_line_and_leaves_nothing(case: str, run: Run, tmp_path: Path) -> None:
    name, content = HOSTILE[case]
    path = tmp_path / name
    path.write_bytes(content)
    flags = ["--map", "crossroads"] if name == "r.xml" else []
    fault = run("scenario", path, *flags, "--model", tmp_path / "no_model", "-o", tmp_path / "out.h5").fault
    assert "no_model" not in fault, "the fault should be found before the model is asked for"
    assert name in fault or "nowhere.xodr" in fault, fault
    assert [p.name for p in tmp_path.iterdir()] == [name] and not list(Path.cwd().iterdir())


def test_a_missing_route_map_output_or_file(run: Run, tmp_path: Path, shared_data: Path) -> None:
    routes, town = shared_data / "routes" / "lb1_devtest.xml", shared_data / "maps" / "Town01.xodr"
    assert "12345" in run("scenario", routes, "--map", town, "--route-id", 12345).fault
    assert "Town" in run("scenario", routes, "--route-id", 0, "--model", tmp_path / "none").fault
    assert "nothing.yaml" in run("scenario", tmp_path / "nothing.yaml").fault
    (tmp_path / "file").touch()
    assert "choose another output" in run("scenario", "left_turn", "-o", tmp_path / "file" / "x.h5").fault
    (tmp_path / "dir" / "left_turn.h5").mkdir(parents=True)
    assert "folder" in run("scenario", "left_turn", "-o", tmp_path / "dir").fault
    assert "x.jpg" in run("scenario", "left_turn", "--picture", tmp_path / "x.jpg", "-o", tmp_path / "a.h5").fault


def test_a_bad_checkpoint(run: Run, untrained: Path, tmp_path: Path) -> None:
    whole = (untrained / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.safetensors").write_text("not a model")
    other = whole.replace(b'\\"embed\\": 16', b'\\"embed\\": 32', 1)
    assert other != whole
    (tmp_path / "other.safetensors").write_bytes(other)
    for name in ("cut", "text", "other", "absent"):
        fault = run("scenario", "straight", "--model", tmp_path / f"{name}.safetensors", "-o", tmp_path / "x.h5").fault
        assert f"{name}.safetensors" in fault
    assert not (tmp_path / "x.h5").exists()


def test_a_damaged_scene(run: Run, scene_path: Path, tmp_path: Path) -> None:
    scene_path.write_bytes(scene_path.read_bytes()[:3000])
    for arguments in (["inspect", scene_path], ["render", scene_path, "-o", tmp_path / "x.gif"], ["view", scene_path]):
        assert "scene.h5" in run(*arguments).fault
    assert "scene.h5" in run("scenario", "straight", "--edit", scene_path, "-o", tmp_path / "y.h5").fault


def mutated(content: bytes, seed: int) -> bytes:
    """The same file with a few bytes, numbers or pieces changed, doubled or lost."""
    rng = random.Random(seed)
    data = bytearray(content)
    for _ in range(rng.choice([1, 2, 6, 20])):
        at, size = rng.randrange(len(data)), rng.choice([1, 3, 40, 400])
        kind = rng.randrange(5)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1 and len(data) > 1000:
            del data[at : at + size]
        elif kind == 2:
            data[at:at] = data[at : at + size]
        elif kind == 3:
            data[at : at + 1] = rng.choice([b"nan", b"-1", b"1e308", b"<", b'"', b"\x00", b"&amp;", b"9" * 30])
        else:
            data = data[: max(1, at)]
    return bytes(data)


def refuse_or_reach_the_model(run: Run, path: Path, *flags: object) -> None:
    fault = run("scenario", path, *flags, "--frames", 8, "--model", path.parent / "no_model").fault
    assert path.name in fault or "no_model" in fault, fault
    assert [p.name for p in path.parent.iterdir()] == [path.name]


MUTATE = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(MUTATE, max_examples=40)
@given(seed=st.integers(0, 2**32), name=st.sampled_from(["lb1_devtest.xml", "lb2_devtest.xml", "routes_town10.xml"]))
def test_mutated_routes(seed: int, name: str, run: Run, shared_data: Path, tmp_path: Path) -> None:
    whole = (shared_data / "routes" / name).read_bytes()
    (tmp_path / "r.xml").write_bytes(mutated(whole[: 1 << 16], seed))
    refuse_or_reach_the_model(run, tmp_path / "r.xml", "--map", "crossroads")


@settings(MUTATE, max_examples=12)
@given(seed=st.integers(0, 2**32))
def test_mutated_maps(seed: int, run: Run, tmp_path: Path) -> None:
    (tmp_path / "m.xodr").write_bytes(mutated((LIBRARY / "maps" / "crossroads.xodr").read_bytes(), seed))
    refuse_or_reach_the_model(run, tmp_path / "m.xodr")


@settings(MUTATE, max_examples=40)
@given(seed=st.integers(0, 2**32), name=st.sampled_from(["left_turn", "dense_traffic", "lane_change"]))
def test_mutated_scenarios(seed: int, name: str, run: Run, tmp_path: Path) -> None:
    content = (LIBRARY / f"{name}.yaml").read_bytes().replace(b"maps/", str(LIBRARY / "maps").encode() + b"/")
    (tmp_path / "s.yaml").write_bytes(mutated(content, seed))
    refuse_or_reach_the_model(run, tmp_path / "s.yaml")


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, cli, bridges.scenes as s\n"
        "def stop(*a, **k): raise KeyboardInterrupt\n"
        "s._load = stop\n"
        f"sys.argv = ['dcgen', 'scenario', 'straight', '-o', {str(tmp_path / 'x.h5')!r}]\n"
        "cli.main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert result.returncode == 130 and "Traceback" not in result.stderr and not list(tmp_path.iterdir()), result
