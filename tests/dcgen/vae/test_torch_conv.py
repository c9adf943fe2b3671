"""The rule books of plain torch: which site is whose neighbour, and whose child."""

import torch

from dcgen.vae.sparse import SparseVolume
from dcgen.vae.torch_conv import find_children, find_neighbours


def test_rule_books_point_at_the_right_sites():
    active = torch.rand((2, 5, 4, 3), generator=torch.Generator().manual_seed(0)) < 0.4
    sparse = SparseVolume.from_dense(torch.zeros(2, 1, 5, 4, 3), active)
    rules = find_neighbours(sparse)
    rows = {tuple(p): m for m, p in enumerate(sparse.indices.tolist())}
    for m, (b, x, y, z) in enumerate(sparse.indices.tolist()):
        for k, (dx, dy, dz) in enumerate(rules.offsets):
            assert rules.table[m, k] == rows.get((b, x + dx, y + dy, z + dz), len(rows))
    children = find_children(sparse, (2, 2, 2))
    assert torch.equal(children.table.view(-1)[children.slot].long(), torch.arange(len(rows)))
