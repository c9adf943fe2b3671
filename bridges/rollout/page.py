"""The results of a benchmark as one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import Any

MULTIPLIERS = ("no_collision", "drivable_area", "driving_direction")
WEIGHTED = ("progress", "time_to_collision", "lane_keeping", "history_comfort", "extended_comfort")
COMPOSED = ("epdms", "driving_score", "route_completion")
TERMS = (*COMPOSED, *MULTIPLIERS, *WEIGHTED)


STYLE = """
:root { --ink: #1d2230; --soft: #667085; --line: #dfe2e8; --page: #f6f7f9; --card: #fff;
  --bar: #d5e3fb; --bad: #c21f32 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7e9ee; --soft: #98a1b3; --line: #343a48; --page: #14171e; --card: #1d212b;
    --bar: #2c4470; --bad: #ff8090 }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1500px; padding: 2rem 1.5rem 4rem; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif }
h1 { font-size: 1.6rem; margin: 0 0 .2rem } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem }
p { margin: .2rem 0; color: var(--soft) }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; background: var(--card) }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: .45rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th { font-weight: 600; font-size: .8rem; color: var(--soft); vertical-align: bottom; white-space: normal;
  min-width: 4.4rem }
tr:last-child td { border-bottom: 0 } th:first-child, td:first-child { text-align: left }
td.part { background: linear-gradient(var(--bar), var(--bar)) no-repeat left / calc(var(--part) * 100%) 100% }
td.best { font-weight: 700 }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 1rem }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow: hidden }
figure img { display: block; width: 100%; height: 300px; object-fit: contain; background: #e4e4e8 }
figcaption { padding: .6rem .8rem .8rem } figcaption b { overflow-wrap: anywhere }
.bad { color: var(--bad) }
.key i { display: inline-block; width: 1.4em; height: .5em; margin: 0 .35em 0 .9em; border-radius: 2px }
table.why th { text-align: left } td.text { text-align: left; white-space: normal }
"""
KEY = (
    ("#eb6e14", "the ego, a box each second"),
    ("#4678dc", "the ego of the scene itself"),
    ("#d71428", "contact: a larger ring where the ego is at fault"),
    ("#d0d0d5", "road"),
    ("#e4e4e8", "unknown"),
)


def page_of(results: dict[str, Any], pictures: list[Path]) -> str:
    """The page. pictures: PNG files, one for each episode in its order."""
    settings = ", ".join(f"{name} {value}" for name, value in results["settings"].items() if value is not None)
    scenes: dict[str, list[str]] = {}
    for episode, picture in zip(results["episodes"], pictures, strict=True):
        scenes.setdefault(episode["scene"], []).append(_figure(episode, picture))
    sections = [f"<h2>{escape(name)}</h2><div class='row'>{''.join(cards)}</div>" for name, cards in scenes.items()]
    key = "".join(f"<i style='background:{colour}'></i>{escape(text)}" for colour, text in KEY)
    return (
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta http-equiv='Content-Security-Policy' "
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        "<link rel='icon' href='data:,'>"
        f"<title>Planners in closed loop</title><style>{STYLE}</style></head><body>"
        f"<h1>Planners in closed loop</h1><p>{len(results['episodes'])} episodes in {len(scenes)} scenes; "
        f"{escape(settings)}; dcgen {escape(results['dcgen'])}</p>"
        f"<h2>Means</h2><div class='wide'>{_table(results['planners'])}</div>"
        "<p>EPDMS and driving score count a failed episode as 0; a term's mean is over the episodes in which it was "
        f"measured.</p>{_failures(results['episodes'])}<h2>Scenes</h2><p class='key'>{key}</p>{''.join(sections)}"
        "</body></html>"
    )


def _title(name: str) -> str:
    return "EPDMS" if name == "epdms" else name.replace("_", " ")


def _table(planners: dict[str, Any]) -> str:
    head = "".join(f"<th>{_title(name)}</th>" for name in TERMS)
    best = {
        name: max((row["mean"][name] for row in planners.values() if row["mean"][name] is not None), default=None)
        for name in COMPOSED
    }
    lines = []
    for planner, row in planners.items():
        bad = " class='bad'" if row["failed"] else ""
        cells = f"<td>{escape(planner)}</td><td>{row['episodes']}</td><td{bad}>{row['failed']}</td>"
        for name in TERMS:
            value = row["mean"][name]
            marked = " best" if len(planners) > 1 and value is not None and value == best.get(name) else ""
            shown = "<td>-</td>" if value is None else (
                f"<td class='part{marked}' style='--part:{min(max(value, 0.0), 1.0):.3f}'>{value:.3f}</td>"
            )  # fmt: skip
            cells += shown
        lines.append(f"<tr>{cells}<td>{row['steps_per_s'] or '-'}</td></tr>")
    return (
        f"<table><thead><tr><th>planner</th><th>episodes</th><th>failed</th>{head}<th>steps a second</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _failures(episodes: list[dict[str, Any]]) -> str:
    failed = [one for one in episodes if one["failure"]]
    rows = "".join(
        f"<tr><td>{escape(one['planner'])}</td><td class='text'>{escape(one['scene'])}</td>"
        f"<td>{one['frames']} of {one['wanted_frames']}</td>"
        f"<td class='text'>{escape(one['failure'])}</td></tr>"
        for one in failed
    )
    head = "<tr><th>planner</th><th>scene</th><th>frames</th><th>why</th></tr>"
    return f"<h2>Failures</h2><div class='wide'><table class='why'>{head}{rows}</table></div>" if failed else ""


def _figure(episode: dict[str, Any], picture: Path) -> str:
    data = base64.b64encode(picture.read_bytes()).decode()
    planner, scene = escape(episode["planner"]), escape(episode["scene"])
    if episode["failure"]:
        words = f"<span class='bad'>failed after {episode['frames']} frames: {escape(episode['failure'])}</span>"
    else:
        words = f"EPDMS {episode['epdms']:.3f}, driving score {episode['driving_score']:.3f}"
        unmeasured = episode["not_measured"]
        low = [n for n in (*MULTIPLIERS, *WEIGHTED) if episode[n] < 1 and n not in unmeasured]
        words += "".join(f"<br>{_title(name)} {episode[name]:.2f}" for name in low)
    for contact in episode["contacts"]:
        fault = "at fault" if contact["at_fault"] else "not at fault"
        words += f"<br><span class='bad'>frame {contact['frame']}: {contact['kind']} ({contact['how']}), {fault}</span>"
    return (
        f"<figure><img alt='{scene} driven by {planner}, from above' src='data:image/png;base64,{data}'>"
        f"<figcaption><b>{planner}</b><br>{words}</figcaption></figure>"
    )
