"""Sites and features, and how they come out of a dense volume and go back."""

import pytest
import torch

from dcgen.vae.sparse import SparseVolume, linear_index, site_table

SHAPE = (2, 5, 4, 3)


def drawn(share=0.4, channels=6):
    rng = torch.Generator().manual_seed(0)
    active = torch.rand(SHAPE, generator=rng) < share
    return torch.randn(SHAPE[0], channels, *SHAPE[1:], generator=rng), active


def test_dense_and_back_is_the_identity_on_sites():
    values, active = drawn()
    sparse = SparseVolume.from_dense(values, active)
    dense = sparse.dense()
    torch.testing.assert_close(dense, values * active[:, None])
    again = SparseVolume.from_dense(dense, active)
    assert torch.equal(again.indices, sparse.indices)
    torch.testing.assert_close(again.features, sparse.features)


def test_labels_are_embedded_where_active():
    labels = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5) % 7
    table = torch.randn(7, 4, requires_grad=True)
    sparse = SparseVolume.from_labels(labels.to(torch.uint8), table, labels != 0)
    b, x, y, z = sparse.indices.unbind(1)
    assert torch.equal(sparse.features, table[labels[b, x, y, z]])
    sparse.features.sum().backward()
    assert table.grad is not None and torch.equal(table.grad[:, 0], torch.bincount(labels[labels != 0], minlength=7))


def test_the_table_holds_the_row_of_every_site():
    values, active = drawn()
    indices = SparseVolume.from_dense(values, active).indices
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(1))
    shuffled = indices[order]
    table = site_table(shuffled, SHAPE)
    assert torch.equal(table[linear_index(shuffled, SHAPE)].long(), torch.arange(len(indices)))
    assert torch.equal(table.view(SHAPE) < len(indices), active)
    assert torch.equal(linear_index(indices, SHAPE), active.flatten().nonzero()[:, 0])


def test_wrong_shapes_are_refused(unchecked):
    with pytest.raises(ValueError, match="indices"):
        SparseVolume(torch.zeros(3, 3, dtype=torch.int64), torch.zeros(3, 1), (1, 2, 3, 4))
    with pytest.raises(ValueError, match="features"):
        SparseVolume(torch.zeros(3, 4, dtype=torch.int64), torch.zeros(2, 1), (1, 2, 3, 4))
