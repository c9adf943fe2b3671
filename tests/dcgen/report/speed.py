"""How fast pages draw in a headless Chromium without a GPU: python -m tests.dcgen.report.speed PAGE..."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from tests.dcgen.report.browser import Browser, browser

SECONDS = 4
TURN = f"""new Promise(done => {{
  const [before, end] = [dcgen.drawn, performance.now() + {1000 * SECONDS}];
  (function turn() {{
    dcgen.stage.rig.orbit(2, 0);
    dcgen.refresh(false);
    performance.now() < end ? requestAnimationFrame(turn) : done(dcgen.drawn - before);
  }})();
}})"""
PLAY = f"""new Promise(done => {{
  let shown = 0;
  const show = dcgen.show;
  dcgen.show = function (frame) {{ shown++; return show.call(this, frame); }};
  Object.assign(dcgen, {{ loop: true, rate: 1000 }});
  dcgen.play();
  setTimeout(() => {{ dcgen.pause(); delete dcgen.show; dcgen.rate = 1; done(shown); }}, {1000 * SECONDS});
}})"""


def cpu_s(root: int) -> float:
    """CPU seconds of a process and all below it."""
    parents, spent = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.parent.name)] = int(fields[1])
        spent[int(entry.parent.name)] = sum(map(int, fields[11:13]))
    family = {root}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(spent.get(pid, 0) for pid in family) / os.sysconf("SC_CLK_TCK")


def rate(opened: Browser, code: str) -> str:
    """Frames a second, and CPU milliseconds of all of the browser for each."""
    before, start = cpu_s(opened.pid), time.monotonic()
    count = opened.run(code)
    return f"{count / (time.monotonic() - start):.0f}/s at {1000 * (cpu_s(opened.pid) - before) / count:.0f} ms CPU"


def main() -> None:
    with browser() as opened:
        for page in map(Path, sys.argv[1:]):
            opened.open(page)
            turned = rate(opened, TURN)
            opened.press("1")
            time.sleep(0.6)
            rate(opened, "new Promise(done => setTimeout(() => done(1), 500))")
            new, again = rate(opened, PLAY), rate(opened, PLAY)
            quads = opened.run("dcgen.shown.quads")
            size = page.stat().st_size
            print(f"{page.name}: {size:,} bytes; turning {turned}; playing {new}, again {again}; {quads} faces")


if __name__ == "__main__":
    main()
