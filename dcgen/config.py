"""Sizes of the models. A preset is a function; what follows from other sizes is a property."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dcgen.types import AGENT_CHANNELS, CLASS_NAMES, STATIC_CHANNELS, GridSpec, carlasc_grid, nano_grid, wide_grid


@dataclass(frozen=True)
class HexShape:
    """Sizes of a latent: six planes with `channels` each, and an X-Y-T volume with `volume_channels`.

    t, x, y, z are the planes' cells; volume_t, volume_x, volume_y those of the volume.
    """

    t: int
    x: int
    y: int
    z: int
    channels: int
    volume_t: int = 0
    volume_x: int = 0
    volume_y: int = 0
    volume_channels: int = 0

    @property
    def planes(self) -> dict[str, tuple[int, int, int]]:
        """[C, rows, columns] of each plane, by name."""
        c, t, x, y, z = self.channels, self.t, self.x, self.y, self.z
        return {"xy": (c, x, y), "xz": (c, x, z), "yz": (c, y, z), "tx": (c, t, x), "ty": (c, t, y), "tz": (c, t, z)}

    @property
    def volume(self) -> tuple[int, int, int, int]:
        """[C, T, X, Y] of the X-Y-T volume; C is 0 where there is none."""
        return (self.volume_channels, self.volume_t, self.volume_x, self.volume_y)

    @property
    def size(self) -> int:
        """Latent values of one chunk."""
        planes = sum(c * rows * columns for c, rows, columns in self.planes.values())
        c, t, x, y = self.volume
        return planes + c * t * x * y


MOST = 2048  # of anything that is counted in a configuration: a file shall not ask for any amount of memory


def _check_sizes(part: str, values: dict[str, Any], may_be_zero: tuple[str, ...] = (), most: int = MOST) -> None:
    """Raises ValueError unless every size is a whole number from 1 (or 0 for some) to most."""
    for name, value in values.items():
        for size in value if isinstance(value, (tuple, list)) else (value,):
            if not isinstance(size, int) or not (0 if name in may_be_zero else 1) <= size <= most:
                raise ValueError(f"{part}.{name} needs whole numbers from 1 to {most}, got {value}")


def _check_choice(field: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{field} must be one of {', '.join(choices)}, got {value!r}")


PROJECTIONS = ("attention", "average")
DECODERS = ("squeeze", "queries")
ROLLOUTS = ("padded", "unfolded", "vertical")
SAMPLERS = ("euler", "heun")


@dataclass(frozen=True)
class VaeConfig:
    """The autoencoder. Strides divide the grid into the planes' cells, volume_stride into the volume's.

    projection: how a plane's cell reads its sites, by the Projection Module or by their mean. decoder: Expansion &
    Squeeze, or an MLP that is asked voxel by voxel; both of the latter are the paper's alternatives, for comparison.
    """

    embed: int = 16
    widths: tuple[int, int] = (24, 40)
    heads: int = 4
    stride: int = 2
    time_stride: int = 2
    channels: int = 10
    volume_stride: int = 4
    volume_channels: int = 8  # 0: plain HexPlane
    static_once: bool = True  # False: the paper's Hadamard product of six planes, decoded frame by frame
    decoder_width: int = 96
    residual_width: int = 64
    squeeze_width: int = 32
    projection: str = "attention"
    decoder: str = "squeeze"

    def __post_init__(self) -> None:
        words = ("static_once", "projection", "decoder")
        sizes = {name: value for name, value in asdict(self).items() if name not in words}
        _check_sizes("vae", sizes, may_be_zero=("volume_channels",), most=512)
        _check_choice("vae.projection", self.projection, PROJECTIONS)
        _check_choice("vae.decoder", self.decoder, DECODERS)
        if self.decoder == "queries" and self.static_once:
            raise ValueError("vae.decoder queries needs static_once false: each voxel of each frame is asked")
        if len(self.widths) != 2 or self.widths[-1] % self.heads:
            raise ValueError(f"vae.widths needs two sizes, the last divisible by {self.heads} heads, got {self.widths}")
        for name in ("stride", "volume_stride"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ValueError(f"vae.{name} must be a power of two, got {value}")
        if self.volume_stride % self.stride:
            raise ValueError(f"vae.volume_stride must divide by stride {self.stride}, got {self.volume_stride}")


@dataclass(frozen=True)
class DitConfig:
    """The diffusion transformer over the rollout and the volume, with a local head beside it (none at local_depth 0).

    layout_fold: voxels along a side of the layout that are read as one cell's channels from the start; 2 spares three
    quarters of the largest convolutions where voxels are small.
    rollout: how the six planes become one sequence; the paper's padded rollout, or what it is compared with.
    interval: the field also takes where a step ends, as a few-step student does (dcgen.student).
    """

    width: int = 192
    depth: int = 8
    heads: int = 3
    mlp_ratio: int = 4
    patch: int = 2
    volume_patch: tuple[int, int, int] = (4, 2, 2)
    layout_width: int = 48
    layout_fold: int = 1
    local_width: int = 64
    local_depth: int = 4
    local_levels: int = 2
    rollout: str = "padded"
    interval: bool = False

    def __post_init__(self) -> None:
        sizes = {name: value for name, value in asdict(self).items() if name not in ("rollout", "interval")}
        _check_sizes("dit", sizes, may_be_zero=("local_levels", "local_depth"))
        _check_choice("dit.rollout", self.rollout, ROLLOUTS)
        if not isinstance(self.interval, bool):
            raise ValueError(f"dit.interval needs true or false, got {self.interval!r}")
        if self.width % (2 * self.heads):
            raise ValueError(f"dit.width must divide by twice its {self.heads} heads, got {self.width}")
        if self.layout_fold & (self.layout_fold - 1):
            raise ValueError(f"dit.layout_fold must be a power of two, got {self.layout_fold}")
        if len(self.volume_patch) != 3:
            raise ValueError(f"dit.volume_patch needs three sizes, got {self.volume_patch}")


@dataclass(frozen=True)
class Sampling:
    """How the velocity field is integrated. guidance 1 uses the condition as it is; shift > 1 dwells on the noise."""

    steps: int = 12
    guidance: float = 2.0
    sampler: str = "euler"
    shift: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.sampler not in SAMPLERS or not 0 <= self.guidance < 100 or self.shift <= 0:
            raise ValueError(f"sampling needs steps >= 1, a sampler of {sorted(SAMPLERS)} and guidance >= 0: {self}")

    def but(self, steps: int | None = None, guidance: float | None = None) -> Sampling:
        """The same, except for what is given."""
        return replace(
            self,
            steps=self.steps if steps is None else steps,
            guidance=self.guidance if guidance is None else guidance,
        )


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes a model: its grid, its frames, its two networks, and how it is sampled by default."""

    name: str
    grid: GridSpec
    frames: int
    dt_s: float
    anchored: bool = True  # False: every frame is centred on the ego, as in the paper
    vae: VaeConfig = field(default_factory=VaeConfig)
    dit: DitConfig = field(default_factory=DitConfig)
    static_channels: int = len(STATIC_CHANNELS)
    agent_channels: int = len(AGENT_CHANNELS)
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isprintable() or len(self.name) > 100:
            raise ValueError("model: name needs one short line of text")
        if not isinstance(self.anchored, bool) or not isinstance(self.vae.static_once, bool):
            raise ValueError(f"model {self.name}: anchored and vae.static_once need true or false")
        _check_sizes(f"model {self.name}", {"frames": self.frames, "grid": self.grid.shape})
        channels = {"static_channels": self.static_channels, "agent_channels": self.agent_channels}
        _check_sizes(f"model {self.name}", channels, most=64)
        if not 0 < self.dt_s < math.inf:
            raise ValueError(f"model {self.name}: dt_s needs a positive number of seconds, got {self.dt_s}")
        vae, dit = self.vae, self.dit
        x, y, z = self.grid.shape
        multiple, moments = vae.stride * dit.patch, vae.time_stride * dit.patch
        if multiple < 2 or multiple & (multiple - 1):
            raise ValueError(f"model {self.name}: vae.stride x dit.patch must be a power of two, got {multiple}")
        if x % multiple or y % multiple or z % multiple or self.frames % moments:
            raise ValueError(
                f"model {self.name}: grid {self.grid.shape} must divide by {multiple} "
                f"and frames {self.frames} by {moments}"
            )
        if vae.stride % dit.layout_fold:
            raise ValueError(f"model {self.name}: vae.stride {vae.stride} must divide by dit.layout_fold")
        if vae.volume_channels:
            t, *sides = dit.volume_patch
            blocks = tuple(vae.volume_stride * side for side in sides)
            if x % blocks[0] or y % blocks[1] or self.frames % t:
                raise ValueError(
                    f"model {self.name}: grid {self.grid.shape} must divide by {blocks} in x and y "
                    f"and frames {self.frames} by {t} for the tokens of the X-Y-T volume"
                )

    @property
    def hex_shape(self) -> HexShape:
        """Sizes of the latent that this grid and these strides give."""
        x, y, z = (n // self.vae.stride for n in self.grid.shape)
        volume = (0, 0, 0, 0)
        if self.vae.volume_channels:
            s = self.vae.volume_stride
            volume = (self.frames, self.grid.shape[0] // s, self.grid.shape[1] // s, self.vae.volume_channels)
        return HexShape(self.frames // self.vae.time_stride, x, y, z, self.vae.channels, *volume)

    @property
    def compression(self) -> float:
        """Voxels a latent value."""
        x, y, z = self.grid.shape
        return self.frames * x * y * z / self.hex_shape.size

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; the names of the classes lie beside it, since weights mean nothing without them."""
        return {**asdict(self), "classes": list(CLASS_NAMES)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ModelConfig:
        """The inverse of to_dict; raises KeyError, TypeError or ValueError on fields that do not fit."""
        parts = dict(values)
        if (classes := parts.pop("classes", list(CLASS_NAMES))) != list(CLASS_NAMES):
            raise ValueError(f"classes: {_first_difference(classes)}")
        grid = {key: tuple(value) for key, value in parts.pop("grid").items()}
        vae, dit = dict(parts.pop("vae")), dict(parts.pop("dit"))
        vae["widths"] = tuple(vae["widths"])
        dit["volume_patch"] = tuple(dit["volume_patch"])
        sampling = Sampling(**parts.pop("sampling", {}))
        return ModelConfig(
            grid=GridSpec(**grid), vae=VaeConfig(**vae), dit=DitConfig(**dit), sampling=sampling, **parts
        )


def _first_difference(classes: Any) -> str:
    """Where a list of class names departs from dcgen's."""
    if not isinstance(classes, list) or len(classes) != len(CLASS_NAMES):
        count = len(classes) if isinstance(classes, list) else classes
        return f"{count} of them, this dcgen has {len(CLASS_NAMES)}"
    index = next(i for i, name in enumerate(CLASS_NAMES) if classes[i] != name)
    return f"number {index} is {classes[index]!r}, this dcgen has {CLASS_NAMES[index]!r}"


def nano() -> ModelConfig:
    """What ships: 64 x 64 x 8 voxels of 0.8 m, 8 frames at 5 Hz, for a laptop's CPU."""
    return ModelConfig("nano", nano_grid(), frames=8, dt_s=0.2)


def base() -> ModelConfig:
    """The paper's scale, anchored: CarlaSC's grid, 128 x 128 x 8 voxels of 0.4 m, 16 frames at 10 Hz."""
    vae = VaeConfig(volume_stride=8, volume_channels=10)
    dit = DitConfig(patch=4, layout_fold=2, local_levels=3)
    sampling = Sampling(guidance=3.5)
    return ModelConfig("base", carlasc_grid(), frames=16, dt_s=0.1, vae=vae, dit=dit, sampling=sampling)


def wide() -> ModelConfig:
    """The paper's large set-up: 200 x 200 x 16 voxels, 80 x 80 x 6.4 m, 16 frames at 10 Hz."""
    dit = DitConfig(
        width=384, depth=14, heads=6, patch=4, volume_patch=(4, 5, 5), layout_width=64, layout_fold=2, local_levels=3
    )
    return replace(base(), name="wide", grid=wide_grid(), dit=dit)


def paper() -> ModelConfig:
    """The published architecture on CarlaSC's grid: ego-centred, six planes, Hadamard product (DynamicCity)."""
    vae = VaeConfig(channels=16, volume_channels=0, static_once=False, squeeze_width=64)
    dit = DitConfig(width=384, depth=16, heads=8, local_depth=0)
    return ModelConfig("paper", carlasc_grid(), frames=16, dt_s=0.1, anchored=False, vae=vae, dit=dit)


PRESETS = {"nano": nano, "base": base, "wide": wide, "paper": paper}
