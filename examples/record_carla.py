"""Record clips from a CARLA server of your own: start CarlaUE4.sh, then `python examples/record_carla.py out/town`.

Run it again where it was stopped: finished parts are kept, and the rest is made as if nothing had happened.
"""

import sys
from pathlib import Path

from bridges.carla.order import RecordOrder
from bridges.carla.record import record
from dcgen.dataset.store import open_dataset
from dcgen.errors import DcgenError
from dcgen.types import CLASS_NAMES, nano_grid


def main(folder: Path, host: str = "127.0.0.1") -> int:
    order = RecordOrder(
        folder, clips=64, host=host, port=2000, map="Town01", seed=7, grid=nano_grid(), frames=8, dt_s=0.2,
        vehicles=60, walkers=30,
    )  # fmt: skip
    try:
        record(order, print, lambda done, total: print(f"{done} of {total} clips"))
    except DcgenError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    data = open_dataset(folder)
    for row in data.rows:
        shares = {name: count for name, count in zip(CLASS_NAMES, row.label_counts, strict=False) if count}
        print(f"{row.source}: {row.moving_agents} of {row.agents} agents move; voxels {shares}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        print("usage: python examples/record_carla.py FOLDER [HOST]", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
