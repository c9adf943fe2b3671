"""What a viewer shows and what its keys do, without a window. Times are seconds of a clock that only goes forward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dcgen.export.camera import CAMERAS
from dcgen.export.look import ALL_CLASSES, Look
from dcgen.types import CLASS_NAMES

CLASS_KEYS = "1234567890-"  # of the classes 1 to 11
SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
# What is listed, beside the classes.
KEYS = (
    ("SPACE", "play, pause"),
    ("LEFT RIGHT", "a frame back, on"),
    ("HOME END", "first, last frame"),
    ("DOWN UP", "slower, faster"),
    ("C", "next camera"),
    ("TAB", "ego of next scene"),
    ("R", "look from there again"),
    ("I", "instances or classes"),
    ("E", "ego path"),
    ("B", "agent boxes"),
    ("L", "layout"),
    ("=", "all classes"),
    ("H", "hide this list"),
    ("Q", "leave"),
)


@dataclass
class Playback:
    """The state of a viewer of one or more scenes that play in step; a shorter one waits in its last frame.

    frames: of each scene. step_s: from one frame to the next, at speed 1. stale, unaimed: whether there is something
    new to draw, and whether the camera is to be put where it belongs.
    """

    frames: tuple[int, ...]
    step_s: float
    index: int = 0
    playing: bool = True
    speed: float = 1.0
    camera: str = CAMERAS[0]
    focus: int = 0  # the scene whose ego is followed
    look: Look = field(default_factory=Look)
    listing: bool = True
    stale: bool = True
    unaimed: bool = True
    _due_s: float | None = None

    def __post_init__(self) -> None:
        if not self.frames or min(self.frames) < 1 or not self.step_s > 0:
            raise ValueError(f"playback needs frames and a positive step_s, got {self.frames} and {self.step_s}")

    @property
    def length(self) -> int:
        return max(self.frames)

    def frame_of(self, scene: int) -> int:
        """Which frame of a scene is seen."""
        return min(self.index, self.frames[scene] - 1)

    def press(self, key: str) -> bool:
        """Do what a key says; whether it says anything."""
        if len(key) == 1 and key in CLASS_KEYS:
            self._look(classes=self.look.classes ^ {CLASS_KEYS.index(key) + 1})
            return True
        action = self._actions().get(key)
        if action is None:
            return False
        action()
        self.stale = True
        return True

    def advance(self, now_s: float) -> None:
        """Move on to the next frame when it is time."""
        if not self.playing or self.length < 2:
            self._due_s = None
            return
        if self._due_s is None:
            self._due_s = now_s + self.step_s / self.speed
        elif now_s >= self._due_s:
            late_s = now_s - self._due_s
            self._due_s = now_s + max(0.0, self.step_s / self.speed - late_s)
            self._go(self.index + 1)

    def status(self) -> str:
        """One line on the moment."""
        state = "playing" if self.playing else "paused"
        return f"frame {self.index + 1} of {self.length}   {state}   speed {self.speed:g}   {self.camera}"

    def listed(self) -> list[tuple[str, str, bool]]:
        """Key, what it does, and whether that is on: the lines of the list on screen."""
        on = {"I": self.look.colour == "instance", "E": self.look.path, "B": self.look.boxes, "L": self.look.layout}
        single = len(self.frames) == 1
        lines = [(key, what, on.get(key, True)) for key, what in KEYS if not (single and key == "TAB")]
        return lines + [(key, CLASS_NAMES[k], k in self.look.classes) for k, key in enumerate(CLASS_KEYS, 1)]

    def _actions(self) -> dict[str, Callable[[], None]]:
        place = SPEEDS.index(self.speed)
        return {
            "SPACE": lambda: setattr(self, "playing", not self.playing),
            "RIGHT": lambda: self._step(self.index + 1),
            "LEFT": lambda: self._step(self.index - 1),
            "HOME": lambda: self._step(0),
            "END": lambda: self._step(self.length - 1),
            "UP": lambda: setattr(self, "speed", SPEEDS[min(place + 1, len(SPEEDS) - 1)]),
            "DOWN": lambda: setattr(self, "speed", SPEEDS[max(place - 1, 0)]),
            "C": lambda: self._aim(CAMERAS[(CAMERAS.index(self.camera) + 1) % len(CAMERAS)], self.focus),
            "TAB": lambda: self._aim(self.camera, (self.focus + 1) % len(self.frames)),
            "R": lambda: self._aim(self.camera, self.focus),
            "I": lambda: self._look(colour="class" if self.look.colour == "instance" else "instance"),
            "E": lambda: self._look(path=not self.look.path),
            "B": lambda: self._look(boxes=not self.look.boxes),
            "L": lambda: self._look(layout=not self.look.layout),
            "=": lambda: self._look(classes=ALL_CLASSES),
            "H": lambda: setattr(self, "listing", not self.listing),
        }

    def _step(self, index: int) -> None:
        self.playing = False
        self._go(index)

    def _go(self, index: int) -> None:
        self.index = index % self.length
        self.stale = True

    def _aim(self, camera: str, focus: int) -> None:
        self.camera, self.focus, self.unaimed = camera, focus, True

    def _look(self, **changes: object) -> None:
        self.look = replace(self.look, **changes)  # type: ignore[arg-type]
        self.stale = True
