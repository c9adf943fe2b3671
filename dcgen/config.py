"""Sizes of the models. A preset is a function; what follows from other sizes is a property."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from dcgen.types import AGENT_CHANNELS, STATIC_CHANNELS, GridSpec, carlasc_grid, nano_grid


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


@dataclass(frozen=True)
class VaeConfig:
    """The autoencoder. Strides divide the grid into the planes' cells, volume_stride into the volume's."""

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

    def __post_init__(self) -> None:
        sizes = {name: value for name, value in asdict(self).items() if name != "static_once"}
        _check_sizes("vae", sizes, may_be_zero=("volume_channels",), most=512)
        if len(self.widths) != 2 or self.widths[-1] % self.heads:
            raise ValueError(f"vae.widths needs two sizes, the last divisible by {self.heads} heads, got {self.widths}")
        for name in ("stride", "volume_stride"):
            value = getattr(self, name)
            if value < 2 or value & (value - 1):
                raise ValueError(f"vae.{name} must be a power of two from 2, got {value}")
        if self.volume_stride % self.stride:
            raise ValueError(f"vae.volume_stride must divide by stride {self.stride}, got {self.volume_stride}")


@dataclass(frozen=True)
class DitConfig:
    """The diffusion transformer over the padded rollout and the volume."""

    width: int = 192
    depth: int = 8
    heads: int = 3
    mlp_ratio: int = 4
    patch: int = 2
    volume_patch: tuple[int, int, int] = (4, 2, 2)
    layout_width: int = 48
    local_width: int = 64
    local_depth: int = 4
    local_levels: int = 2

    def __post_init__(self) -> None:
        _check_sizes("dit", asdict(self), may_be_zero=("local_levels",))
        if self.width % (2 * self.heads):
            raise ValueError(f"dit.width must divide by twice its {self.heads} heads, got {self.width}")
        if len(self.volume_patch) != 3:
            raise ValueError(f"dit.volume_patch needs three sizes, got {self.volume_patch}")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes a model: its grid, its frames and its two networks."""

    name: str
    grid: GridSpec
    frames: int
    dt_s: float
    anchored: bool = True  # False: every frame is centred on the ego, as in the paper
    vae: VaeConfig = field(default_factory=VaeConfig)
    dit: DitConfig = field(default_factory=DitConfig)
    static_channels: int = len(STATIC_CHANNELS)
    agent_channels: int = len(AGENT_CHANNELS)

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
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ModelConfig:
        """The inverse of to_dict; raises KeyError, TypeError or ValueError on fields that do not fit."""
        parts = dict(values)
        grid = {key: tuple(value) for key, value in parts.pop("grid").items()}
        vae, dit = dict(parts.pop("vae")), dict(parts.pop("dit"))
        vae["widths"] = tuple(vae["widths"])
        dit["volume_patch"] = tuple(dit["volume_patch"])
        return ModelConfig(grid=GridSpec(**grid), vae=VaeConfig(**vae), dit=DitConfig(**dit), **parts)


def nano() -> ModelConfig:
    """What ships: 64 x 64 x 8 voxels of 0.8 m, 8 frames at 5 Hz, for a laptop's CPU."""
    return ModelConfig("nano", nano_grid(), frames=8, dt_s=0.2)


def paper() -> ModelConfig:
    """The published architecture on CarlaSC's grid: ego-centred, six planes, Hadamard product (DynamicCity)."""
    vae = VaeConfig(channels=16, volume_channels=0, static_once=False, squeeze_width=64)
    dit = DitConfig(width=384, depth=16, heads=8)
    return ModelConfig("paper", carlasc_grid(), frames=16, dt_s=0.1, anchored=False, vae=vae, dit=dit)


PRESETS = {"nano": nano, "paper": paper}
