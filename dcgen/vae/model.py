"""The autoencoder: 4D occupancy <-> HexPlane and X-Y-T volume. B batch, T frame, X/Y/Z voxel axes, M sites."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from dcgen.config import ModelConfig
from dcgen.hexplane import PLANES, HexPlane
from dcgen.types import MOVABLE, NUM_CLASSES, UNKNOWN, Semantics
from dcgen.vae.backbone import SparseBackbone, SparseVolume
from dcgen.vae.decoder import AnchoredDecoder, HadamardDecoder
from dcgen.vae.projection import AverageProjection, Refine, SummaryAttention, axis_code
from dcgen.vae.queries import QueryDecoder

FREQUENCIES = 6


@dataclass(frozen=True)
class Posterior:
    """A normal distribution over latents, part by part."""

    mean: HexPlane
    log_variance: HexPlane

    def sample(
        self, generator: torch.Generator | None = None, normal: Callable[..., Tensor] = torch.randn
    ) -> HexPlane:
        """A draw; the noise is made on the CPU by normal(shape, generator=generator), so that every device draws the
        same."""
        parts = {}
        for (name, mean), (_, log_variance) in zip(self.mean.items(), self.log_variance.items(), strict=True):
            noise = normal(mean.shape, generator=generator).to(mean.device)
            parts[name] = mean + noise * (0.5 * log_variance).exp()
        return HexPlane(**parts)


@torch.no_grad()
def split_static(labels: UInt8[Tensor, "B T X Y Z"]) -> tuple[UInt8[Tensor, "B X Y Z"], Bool[Tensor, "B T X Y Z"]]:
    """A static volume, and the voxels of each frame that differ from it: together they hold every known label.

    A voxel's static label is its first known immovable one, or a movable one that never changes (a parked car);
    a voxel that only movers were seen in is free, one that was never seen is unknown.
    """
    known = labels != UNKNOWN
    movable = torch.isin(labels, torch.tensor(MOVABLE, dtype=torch.uint8, device=labels.device))
    settled = known & ~movable
    first = settled.to(torch.uint8).argmax(dim=1, keepdim=True)
    static = labels.gather(1, first)[:, 0]
    parked = (labels == labels[:, :1]).all(dim=1) & movable[:, 0]
    static = torch.where(settled.any(dim=1), static, torch.where(parked, labels[:, 0], int(Semantics.FREE)))
    static = torch.where(known.any(dim=1), static, UNKNOWN).to(torch.uint8)
    return static, known & (labels != static[:, None])


class Encoder(nn.Module):
    """Class embedding, sparse backbone, and one projection for each plane.

    In an anchored chunk the static volume is read once and a frame only where it differs from it; the spatial
    planes see both, the temporal planes and the X-Y-T volume what differs. Ego-centred chunks are read frame by frame.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config, vae = config, config.vae
        width = vae.widths[-1]
        self.embed = nn.Embedding(NUM_CLASSES + 1, vae.embed)  # the last one is "unknown"
        self.backbone = SparseBackbone(vae.embed, vae.widths, strides=((vae.stride,) * 3,))
        code = 2 * FREQUENCIES
        names = [*PLANES, "volume"] if vae.volume_channels else list(PLANES)
        # A plane's key and value see where a site lies along the axes that the plane drops.
        dropped = {"xy": 2, "xz": 2, "yz": 2, "tx": 3, "ty": 3, "tz": 3, "volume": 3}

        def projection(name: str) -> nn.Module:
            if vae.projection == "average":
                return AverageProjection(width)
            return SummaryAttention(width, code * dropped[name], vae.heads)

        self.project = nn.ModuleDict({n: projection(n) for n in names})
        self.refine = nn.ModuleDict({n: Refine(width, 3 if n == "volume" else 2) for n in names})
        sizes = {n: vae.volume_channels if n == "volume" else vae.channels for n in names}
        self.statistics = nn.ModuleDict({n: nn.Linear(width, 2 * sizes[n]) for n in names})

    def sites(self, labels: UInt8[Tensor, "B T X Y Z"]) -> SparseVolume:
        """Features of occupied and unknown space at the backbone's resolution.

        Volume b * (T + 1) is the static one of clip b, the T after it are its frames.
        """
        if self.config.vae.static_once:
            static, changed = split_static(labels)
        else:
            static, changed = torch.zeros_like(labels[:, 0]), labels != Semantics.FREE
        active = torch.cat([(static != Semantics.FREE)[:, None], changed], dim=1).flatten(0, 1)
        volume = torch.cat([static[:, None], labels], dim=1).flatten(0, 1)
        volume = torch.where(volume == UNKNOWN, NUM_CLASSES, volume)
        return self.backbone(SparseVolume.from_labels(volume, self.embed.weight, active))

    def forward(self, labels: UInt8[Tensor, "B T X Y Z"]) -> Posterior:
        batch, frames = labels.shape[:2]
        sites = self.sites(labels)
        slot, x, y, z = sites.indices.unbind(1)
        where = {"b": slot // (frames + 1), "t": slot % (frames + 1) - 1, "x": x, "y": y, "z": z}
        codes = self._codes(where, frames)
        in_frame = torch.nonzero(where["t"] >= 0)[:, 0]
        features = {"space": sites.features, "time": sites.features[in_frame]}
        places = {"space": where, "time": {axis: value[in_frame] for axis, value in where.items()}}
        places_code = {"space": codes, "time": {axis: value[in_frame] for axis, value in codes.items()}}
        means, log_variances = {}, {}
        for name, project in self.project.items():
            group = "time" if name == "volume" or "t" in name else "space"
            cell, sizes = self._cells(name, places[group], batch)
            summary = project(
                features[group],
                torch.cat([places_code[group][code] for code in self._dropped(name)], dim=1),
                cell,
                math.prod(sizes),
            )
            refined = self.refine[name](summary.unflatten(0, sizes).movedim(-1, 1)).movedim(1, -1)
            mean, log_variance = self.statistics[name](refined).float().movedim(-1, 1).chunk(2, dim=1)
            means[name], log_variances[name] = mean, log_variance.clamp(-12, 4)
        return Posterior(HexPlane(**means), HexPlane(**log_variances))

    def _codes(self, where: dict[str, Tensor], frames: int) -> dict[str, Tensor]:
        """Position codes along whole axes (t, x, y, z) and within a coarse cell of the latent (in_t, in_x, in_y)."""
        shape, vae = self.config.hex_shape, self.config.vae
        size = {"t": frames, "x": shape.x, "y": shape.y, "z": shape.z}
        coarse = max(vae.volume_stride // vae.stride, 1)
        inner = {"t": vae.time_stride, "x": coarse, "y": coarse}
        codes = {axis: axis_code(where[axis] + 0.5, size[axis], FREQUENCIES) for axis in "txyz"}
        for axis, cells in inner.items():
            codes[f"in_{axis}"] = axis_code(where[axis] % cells + 0.5, cells, FREQUENCIES)
        codes["t"] = codes["t"] * (where["t"] >= 0)[:, None]  # the static volume has no time
        return codes

    @staticmethod
    def _dropped(name: str) -> list[str]:
        if name == "volume":
            return ["in_x", "in_y", "z"]
        return (["in_t"] if "t" in name else []) + [axis for axis in "txyz" if axis not in name]

    def _cells(self, name: str, where: dict[str, Tensor], batch: int) -> tuple[Tensor, tuple[int, ...]]:
        """The cell of the plane that each site belongs to, and the plane's sizes with the batch first."""
        shape, vae = self.config.hex_shape, self.config.vae
        if name == "volume":
            coarse = vae.volume_stride // vae.stride
            _, t, x, y = shape.volume
            cell = ((where["b"] * t + where["t"]) * x + where["x"] // coarse) * y + where["y"] // coarse
            return cell, (batch, t, x, y)
        _, rows, columns = shape.planes[name]
        first = where[name[0]] // (vae.time_stride if name[0] == "t" else 1)
        return (where["b"] * rows + first) * columns + where[name[1]], (batch, rows, columns)


class Vae(nn.Module):
    """Encoder and decoder. `forward` gives logits and the posterior they came from."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        if config.vae.static_once:
            self.decoder: AnchoredDecoder | HadamardDecoder | QueryDecoder = AnchoredDecoder(config)
        else:
            self.decoder = QueryDecoder(config) if config.vae.decoder == "queries" else HadamardDecoder(config)

    def encode(self, labels: UInt8[Tensor, "B T X Y Z"]) -> Posterior:
        return self.encoder(labels)

    def decode(self, planes: HexPlane, frames: Int[Tensor, " T"] | None = None) -> Float[Tensor, "B T X Y Z K"]:
        """Logits of all frames, or of the named ones: frames are decoded independently of each other."""
        if frames is None:
            frames = torch.arange(self.config.frames)
        return self.decoder(planes, frames.to(planes.tx.device))

    @torch.no_grad()
    def labels(self, planes: HexPlane) -> UInt8[Tensor, "B T X Y Z"]:
        """The likeliest class of every voxel: decode(planes).argmax(-1), without all its logits at once."""
        return self.decoder.labels(planes, torch.arange(self.config.frames, device=planes.tx.device))

    @torch.no_grad()
    def reconstruct(self, labels: UInt8[Tensor, "B T X Y Z"]) -> UInt8[Tensor, "B T X Y Z"]:
        """Labels through the latents' means and back."""
        return self.labels(self.encode(labels).mean)
