"""Data sets by their folder, whatever made them: clips kept in shards, or cut from worlds when they are read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from bridges.dataset_worlds import check_world_files
from dcgen.dataset.packing import Packed, pack_clip
from dcgen.dataset.parts import Row
from dcgen.dataset.spec import DatasetSpec
from dcgen.dataset.store import WORLDS, ClipDataset, ClipReader, open_dataset
from dcgen.errors import DatasetError
from dcgen.types import Clip
from scenarios.world.cut.clips import make_clip
from scenarios.world.cut.recipe import ClipRecipe, Pick
from scenarios.world.store import World, load_world

HELD_BYTES = 900_000_000  # of worlds in memory; one is always held
_LAYOUTS = {"layout_static", "layout_agents"}
_SENSED = {"observed", "point_count", "points"}


@dataclass
class WorldReader:
    """Clips cut from the data set's own worlds when they are asked for."""

    folder: Path
    spec: DatasetSpec
    rows: tuple[Row, ...]
    recipe: ClipRecipe
    _held: OrderedDict[str, World] = field(default_factory=OrderedDict)

    def packed(self, index: int, fields: Iterable[str]) -> Packed:
        """The named arrays of one clip; layouts and rays cost time only where they are asked for."""
        wanted = set(fields)
        clip = self.clip(index, layouts=bool(wanted & _LAYOUTS), sensed=bool(wanted & _SENSED))
        return pack_clip(clip, self.spec, wanted)

    def clip(self, index: int, layouts: bool = True, sensed: bool = True) -> Clip:
        cut = self.rows[index].cut
        try:
            name, pick = str(cut["world"]), Pick(int(cut["ego"]), int(cut["start"]), int(cut["seed"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DatasetError(f"{self.folder}: clip {index} names no place in a world; build it again") from error
        recipe = self.recipe if sensed else replace(self.recipe, lidar="")
        world = self._world(name)
        try:
            return make_clip(world, pick, recipe, layouts)
        except (ValueError, IndexError, OverflowError) as error:
            raise DatasetError(f"{self.folder}: clip {index} lies outside its world; build it again") from error

    def _world(self, name: str) -> World:
        if name not in self._held:
            if Path(name).name != name:
                raise DatasetError(f"{self.folder}: {name!r} is no name of a world; build the data set again")
            check_once(self.folder / WORLDS / name)
            world = load_world(self.folder / WORLDS / name)
            while self._held and sum(map(world_bytes, self._held.values())) + world_bytes(world) > HELD_BYTES:
                self._held.popitem(last=False)
            self._held[name] = world
        self._held.move_to_end(name)
        return self._held[name]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_held": OrderedDict()}  # a worker loads its own


@lru_cache(maxsize=4096)
def check_once(folder: Path) -> None:
    """Compare a world's files with its record, once a process. Raises DatasetError."""
    check_world_files(folder)


def world_bytes(world: World) -> int:
    """What a world takes in memory, near enough."""
    log = world.traffic
    return world.tile.bytes + world.raster.flags.nbytes + world.raster.height_cm.nbytes + 2 * log.pose.nbytes


def recipe_of(folder: Path, spec: DatasetSpec) -> ClipRecipe:
    """How the clips of a data set are cut. Raises DatasetError."""
    try:
        return ClipRecipe.from_dict(spec.origin["recipe"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{folder}: says no usable recipe of its clips ({error}); build it again") from error


def _cutter(folder: Path, spec: DatasetSpec, rows: tuple[Row, ...]) -> ClipReader:
    return WorldReader(folder, spec, rows, recipe_of(folder, spec))


def dcgen_dataset(folder: Path | str) -> ClipDataset:
    """The clips of a data set, by index or one after another: `for clip in dcgen_dataset("out/clips"): ...`.

    As far as it is built: an unfinished data set gives what is whole. Raises DatasetError.
    """
    return open_dataset(Path(folder), _cutter)


def preview_dataset(folder: Path, output: Path, clips: int, seed: int) -> Path:
    """A contact sheet of clips drawn by seed. Raises DatasetError, WorldError."""
    import numpy as np

    from scenarios.world.preview import contact_sheet, save_picture

    if output.suffix.lower() != ".png":
        raise DatasetError(f"{output}: a preview is a .png; give the output such a name")
    dataset = dcgen_dataset(folder)
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:clips]
    save_picture(contact_sheet([dataset[int(n)] for n in np.sort(chosen)]), output)
    return output
