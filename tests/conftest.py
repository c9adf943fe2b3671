"""Where the tests find real maps and routes, a scene in which every axis differs, and a command line to call."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cli
from dcgen.scene_file import save_scene
from dcgen.types import (
    LAYOUT_CHANNELS,
    UNKNOWN,
    AgentTracks,
    Command,
    GridSpec,
    Scene,
    Semantics,
    pose_matrix,
)

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "scenarios" / "library"
SHARED_DATA = ROOT.parent / "shared" / "data"
Run = Callable[..., "Result"]
REMEDY = re.compile(
    r"[;:,.] .*\b(add|build|change|check|choose|copy|correct|cut|did you mean|draw|export|free|give|keep|make|mend|pass"
    r"|pip install|put|remove|renumber|save|see|swap|train|use|write)\b"
)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of CARLA maps and routes beside the checkout; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no CARLA maps and routes at {SHARED_DATA}")
    return SHARED_DATA


def small_scene(frames: int = 3, shape: tuple[int, int, int] = (11, 13, 7), seed: int = 0) -> Scene:
    """A scene that differs along every axis: a road bent to the left, a house on the left, a pole on the right."""
    x, y, z = shape
    grid = GridSpec(shape, (0.8, 0.7, 0.6), (-4.0, -5.0, -1.0))
    labels = np.zeros((frames, *shape), np.uint8)
    labels[..., 0] = Semantics.GROUND
    for i in range(x):
        middle = min(y - 2, 4 + i * i // 30)
        labels[:, i, middle - 2 : middle + 2, 0] = Semantics.ROAD
    labels[:, 1:4, y - 3 :, 1 : z - 1] = Semantics.BUILDING
    labels[:, x - 2, 1, 1 : z - 2] = Semantics.POLE
    labels[:, :, :, z - 1] = UNKNOWN
    for t in range(frames):
        labels[t, 5 + t % 3, 4, 1:3] = Semantics.VEHICLE
    rng = np.random.default_rng(seed)
    poses = np.stack([pose_matrix(1.5 * t, 0.2 * t, 0.01 * t, 0.1 * t) for t in range(frames)])
    n = 2
    agents = AgentTracks(
        id=np.array([7, 3], np.int64),
        class_id=np.array([Semantics.VEHICLE, Semantics.PEDESTRIAN], np.uint8),
        size_m=rng.random((n, 3), np.float32) + 1,
        pose=rng.normal(size=(n, frames, 3)),
        z_m=rng.random((n, frames), np.float32),
        speed_mps=rng.random((n, frames), np.float32),
        valid=rng.random((n, frames)) < 0.7,
    )
    return Scene(
        labels=labels,
        grid=grid,
        time_s=0.2 * np.arange(frames),
        world_se3_ego=poses,
        agents=agents,
        trajectory=rng.random((frames, 3), np.float32),
        command=np.full(frames, Command.LEFT, np.int8),
        layout=rng.random((frames, len(LAYOUT_CHANNELS), x, y)).astype(np.float16),
        known=rng.random((frames, *shape)) < 0.2,
        seed=12345678901,
        model="nano",
        model_sha256="ab" * 32,
        scenario="route: ä — left\n",
        metadata={"town": "Town01", "note": "été"},
    )


@pytest.fixture
def scene() -> Scene:
    return small_scene()


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
    cache = tmp_path_factory.getbasetemp() / "cache"  # what bad maps leave is no user's
    monkeypatch.setenv("DCGEN_CACHE", str(cache))

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["dcgen", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return Result(code if isinstance(code, int) else int(bool(code)), *capfd.readouterr())

    return call


def refused(run: Run, folder: Path, *arguments: object) -> str:
    """The line with which a command is refused, after a look at its remedy and at what it left in `folder`."""

    def listing() -> dict[str, int]:
        return {str(path): path.lstat().st_size for path in folder.rglob("*")}

    before = listing()
    fault = run(*arguments).fault
    assert REMEDY.search(fault), fault
    assert listing() == before and not list(Path.cwd().iterdir()), fault
    return fault


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
