"""The characters of a drawn network's streets: widths, speeds, bends, heights; blocks of many sizes. Metres, m/s."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from dcgen.types import Doubles

LANE_M = 3.4
STEEPEST = 0.03  # from node to node; twice that between the level ends of a street
LEVEL_M, LEVEL_SHARE = 26.0, 0.3
SPACING_M = (65.0, 150.0)
SHARP_COS = 0.7  # of the angle between two streets at a node
APART_M = 28.0  # streets that do not meet
LINK_M = 190.0  # longest street that leads on from a dead end
DROPPED = 0.14  # streets taken out, so that blocks merge


@dataclass(frozen=True)
class Character:
    """What a street is like all along, both ways alike."""

    lanes: int
    speed_mps: float
    sidewalk_m: float
    priority: int
    bike_lane_m: float = 0.0


ALLEY = Character(1, 8.33, 2.0, 1)
STREET = Character(1, 13.89, 2.6, 3)
AVENUE = Character(2, 13.89, 3.2, 5)
BOULEVARD = Character(3, 16.67, 3.6, 7)
COUNTRY_ROAD = Character(1, 19.44, 0.0, 4)
CYCLE_STREET = Character(1, 8.33, 2.6, 2, 1.6)
_KINDS = (ALLEY, STREET, AVENUE, BOULEVARD, COUNTRY_ROAD, CYCLE_STREET)
_SHARES = (0.22, 0.38, 0.23, 0.07, 0.05, 0.05)


@dataclass(frozen=True)
class Street:
    start: str
    end: str
    character: Character
    via_m: tuple[tuple[float, float], ...] = ()  # the bend between the nodes


@dataclass(frozen=True)
class Network:
    nodes_m: dict[str, tuple[float, float, float]]
    streets: tuple[Street, ...]
    lights: frozenset[str] = frozenset()

    @staticmethod
    def of(position_m: dict[str, tuple[float, float]], pairs: list[tuple[str, str]]) -> Network:
        """All streets alike, on level ground."""
        return Network({k: (*xy, 0.0) for k, xy in position_m.items()}, tuple(Street(a, b, STREET) for a, b in pairs))


def characterise(drawn: Network, kind: str, rng: np.random.Generator) -> Network:
    """The same network with streets of different kinds, merged blocks, bends, hills and traffic lights."""
    network = _stretched(drawn, rng) if kind == "grid" else drawn
    network = _without_tight_places(_bent(network, kind, rng))
    network = _thinned(_closed(network) if kind == "random" else network, rng)
    characters: dict[str, Character] = {}
    streets = []
    for street in network.streets:
        name = _name(street, kind)
        if name not in characters:
            characters[name] = _KINDS[int(rng.choice(len(_KINDS), p=_SHARES))]
        streets.append(replace(street, character=characters[name]))
    angle_rad = float(rng.uniform(0, np.pi / 2)) if kind == "grid" else 0.0
    return _lit(_hilly(_turned(replace(network, streets=tuple(streets)), angle_rad), rng), rng)


def _name(street: Street, kind: str) -> str:
    """Streets of one name share a character: rows and columns of a grid, rings and arms of a spider's web."""
    a, b = street.start, street.end
    if kind == "grid":
        ends = [end for end in (a, b) if end[0].isupper()]
        if len(ends) == 2:
            return f"column {a[0]}" if a[0] == b[0] else f"row {a[1:]}"
        inner, outer = ends[0], a if ends[0] == b else b
        return f"column {inner[0]}" if outer.startswith(("top", "bottom")) else f"row {inner[1:]}"
    if kind == "spider":
        return f"ring {a[0]}" if a[0] == b[0] else f"arm {a[1:]}"
    return f"{a} {b}"


def _points(network: Network) -> tuple[list[str], Doubles]:
    names = sorted(network.nodes_m)
    return names, np.array([network.nodes_m[name] for name in names])


def _moved(network: Network, names: list[str], points: Doubles) -> Network:
    x, y, z = (np.round(points[:, k], 2) for k in range(3))
    return replace(network, nodes_m={n: (float(x[k]), float(y[k]), float(z[k])) for k, n in enumerate(names)})


def _stretched(network: Network, rng: np.random.Generator) -> Network:
    """A grid with rows and columns at different distances, in half of all grids a little crooked."""
    names, points = _points(network)
    for axis in range(2):
        old = np.unique(points[:, axis])
        new = np.concatenate([[0.0], np.cumsum(rng.uniform(*SPACING_M, len(old) - 1))])
        points[:, axis] = np.interp(points[:, axis], old, new)
    crooked = 7.0 if rng.random() < 0.5 else 0.0
    points[:, :2] += rng.uniform(-crooked, crooked, (len(names), 2))
    return _moved(network, names, points)


def _closed(network: Network) -> Network:
    """With dead ends led on to the nearest node that a straight street reaches, so that blocks form."""
    names, points = _points(network)
    at = {name: points[k, :2] for k, name in enumerate(names)}
    streets = list(network.streets)
    for name in names:
        if sum(name in (street.start, street.end) for street in streets) != 1:
            continue
        away = {other: float(np.hypot(*(at[other] - at[name]))) for other in names}
        for other in sorted(names, key=lambda each: away[each]):
            fits = SPACING_M[0] < away[other] < LINK_M
            new = Street(name, other, STREET)
            if fits and not any(_too_close(new, street, network) for street in streets):
                streets.append(new)
                break
    return replace(network, streets=tuple(streets))


def _thinned(network: Network, rng: np.random.Generator) -> Network:
    """Without some streets, as long as every node keeps two and the whole hangs together."""
    streets = list(network.streets)
    for index in rng.permutation(len(streets))[: int(DROPPED * len(streets))]:
        street = network.streets[int(index)]
        left = [each for each in streets if each is not street]
        degree = {end: sum(end in (each.start, each.end) for each in left) for end in (street.start, street.end)}
        if min(degree.values()) >= 2 and _connected(left):
            streets = left
    return replace(network, streets=tuple(streets))


def _connected(streets: list[Street]) -> bool:
    beside = defaultdict(set)
    for street in streets:
        beside[street.start].add(street.end)
        beside[street.end].add(street.start)
    seen, todo = set(), [streets[0].start]
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo.extend(beside[node] - seen)
    return len(seen) == len(beside)


def _bent(network: Network, kind: str, rng: np.random.Generator) -> Network:
    """Rings become round, streets of a random network bow a little."""
    names, points = _points(network)
    centre = points[:, :2].mean(axis=0)
    at = {name: points[k, :2] for k, name in enumerate(names)}
    streets = []
    for street in network.streets:
        a, b = at[street.start], at[street.end]
        middle, bow = (a + b) / 2, rng.uniform(-0.08, 0.08)
        normal = np.array([a[1] - b[1], b[0] - a[0]])
        if kind == "spider" and street.start[0] == street.end[0]:
            out = middle - centre
            radius = (np.hypot(*(a - centre)) + np.hypot(*(b - centre))) / 2
            peak = centre + out / np.hypot(*out) * radius
        elif kind == "random":
            peak = middle + normal * bow
        else:
            peak = middle
        s = np.linspace(0, 1, 9)[1:-1, None]
        line = (1 - s) * (1 - 2 * s) * a + 4 * s * (1 - s) * peak + s * (2 * s - 1) * b  # a parabola through all three
        via = () if np.hypot(*(peak - middle)) < 1.0 else tuple((float(x), float(y)) for x, y in line.round(2))
        streets.append(replace(street, via_m=via))
    return replace(network, streets=tuple(streets))


def _without_tight_places(network: Network) -> Network:
    """Without streets that come too close to another or leave a node beside it, where the town hangs together still."""
    streets = list(network.streets)
    for street in network.streets:
        left = [each for each in streets if each is not street]
        if any(_too_close(street, each, network) for each in left) and _connected(left):
            streets = left
    return replace(network, streets=tuple(streets))


def _too_close(street: Street, other: Street, network: Network) -> bool:
    import shapely

    shared = {street.start, street.end} & {other.start, other.end}
    if len(shared) == 2:
        return True
    if not shared:
        lines = [shapely.LineString(_line(each, each.start, network)) for each in (street, other)]
        return bool(lines[0].distance(lines[1]) < APART_M)
    ways = []
    for each in (street, other):
        line = _line(each, min(shared), network)
        way = line[min(3, len(line) - 1)] - line[0]
        ways.append(way / np.hypot(*way))
    return bool(ways[0] @ ways[1] > SHARP_COS)


def _line(street: Street, first: str, network: Network) -> Doubles:
    """[N, 2] points along a street from one of its ends."""
    line = np.array([network.nodes_m[street.start][:2], *street.via_m, network.nodes_m[street.end][:2]])
    return line if street.start == first else line[::-1]


def _turned(network: Network, angle_rad: float) -> Network:
    names, points = _points(network)
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    points[:, :2] = points[:, :2] @ np.array([[cos, sin], [-sin, cos]])
    streets = tuple(
        replace(s, via_m=tuple((round(x * cos - y * sin, 2), round(x * sin + y * cos, 2)) for x, y in s.via_m))
        for s in network.streets
    )
    return _moved(replace(network, streets=streets), names, points)


def _hilly(network: Network, rng: np.random.Generator) -> Network:
    """Half of all towns lie on a slope or in a hollow, no street steeper than STEEPEST."""
    names, points = _points(network)
    wanted, phase, length = rng.random() < 0.5, rng.uniform(0, 2 * np.pi, 2), rng.uniform(250.0, 600.0)
    if not wanted:
        return network
    wave = 2 * np.pi / length
    points[:, 2] = (
        STEEPEST / wave * (np.sin(points[:, 0] * wave + phase[0]) + np.sin(points[:, 1] * wave + phase[1])) / 2
    )
    return _moved(network, names, points)


def _lit(network: Network, rng: np.random.Generator) -> Network:
    """Traffic lights where wide streets cross, and at some other junctions of four."""
    lights = set()
    for name in sorted(network.nodes_m):
        here = [street.character for street in network.streets if name in (street.start, street.end)]
        wide, draw = sum(each.lanes > 1 for each in here), rng.random()
        if len(here) >= 3 and (wide >= 2 or (len(here) >= 4 and draw < 0.5)):
            lights.add(name)
    return replace(network, lights=frozenset(lights))


def write_plain(network: Network, nodes_path: Path, edges_path: Path) -> None:
    """The network as netconvert's plain node and edge files, two edges a street."""
    used = {end for street in network.streets for end in (street.start, street.end)}
    rows = [
        f'<node id={quoteattr(name)} x="{x:.2f}" y="{y:.2f}" z="{z:.2f}" '
        f'type="{"traffic_light" if name in network.lights else "priority"}"/>'
        for name, (x, y, z) in sorted(network.nodes_m.items())
        if name in used
    ]
    nodes_path.write_text("<nodes>\n" + "\n".join(rows) + "\n</nodes>\n", encoding="utf-8")
    rows = []
    for k, street in enumerate(network.streets):
        for way, (a, b) in enumerate(((street.start, street.end), (street.end, street.start))):
            via = street.via_m[::-1] if way else street.via_m
            ends = (network.nodes_m[a], network.nodes_m[b])
            rows.append(_edge(f"{k}{'ab'[way]}", a, b, street.character, via, ends))
    edges_path.write_text("<edges>\n" + "\n".join(rows) + "\n</edges>\n", encoding="utf-8")


def _edge(
    name: str,
    start: str,
    end: str,
    character: Character,
    via_m: tuple[tuple[float, float], ...],
    ends_m: tuple[tuple[float, float, float], tuple[float, float, float]],
) -> str:
    line = _profile(np.array([ends_m[0][:2], *via_m, ends_m[1][:2]]), ends_m[0][2], ends_m[1][2])
    shape = ' shape="' + " ".join(f"{x:.2f},{y:.2f},{z:.2f}" for x, y, z in line) + '"'
    sides = f' sidewalkWidth="{character.sidewalk_m}"' if character.sidewalk_m else ""
    sides += f' bikeLaneWidth="{character.bike_lane_m}"' if character.bike_lane_m else ""
    return (
        f'<edge id="{name}" from={quoteattr(start)} to={quoteattr(end)} numLanes="{character.lanes}" '
        f'speed="{character.speed_mps}" priority="{character.priority}" width="{LANE_M}"'
        f"{sides}{shape}/>"
    )


def _profile(line_m: Doubles, start_z_m: float, end_z_m: float) -> Doubles:
    """[N, 3] the street with its heights: level near both nodes, so that all ways across a junction lie in a plane."""
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line_m, axis=0).T))])
    level = min(LEVEL_M, LEVEL_SHARE * s[-1])
    stops = np.array([0.0, level, s[-1] - level, s[-1]])
    at = np.unique(np.round(np.concatenate([s, stops]), 3))
    x, y = (np.interp(at, s, line_m[:, k]) for k in range(2))
    return np.stack([x, y, np.interp(at, stops, [start_z_m, start_z_m, end_z_m, end_z_m])], axis=1)
