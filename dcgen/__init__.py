"""dcgen: labelled 4D occupancy scenes generated from CARLA routes and OpenDRIVE maps.

Importing the package imports no torch and no h5py: `dcgen.generate` and `dcgen.load_scene` load on first use.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcgen.generate import generate as generate
    from dcgen.scene_file import load_scene as load_scene
    from dcgen.scene_file import save_scene as save_scene

__version__ = "0.1.0"
__all__ = ["__version__", "generate", "load_scene", "save_scene"]

_HOMES = {"generate": "dcgen.generate", "load_scene": "dcgen.scene_file", "save_scene": "dcgen.scene_file"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'dcgen' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


class _CallableModule(ModuleType):
    """`dcgen.generate` names a function and, once it is imported, the module that holds it: both can be called."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.generate(*args, **kwargs)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        if name == "generate" and isinstance(value, ModuleType):
            value.__class__ = _CallableModule
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
