"""spconv's two questions answered by loops: what it asks for and what it promises. b, x, y, z sites, K taps.

It stands in for the package where that is not installed. It refuses what spconv refuses or gets wrong, and has the
coarse sites of a strided convolution in an order that is nobody's.
"""

import sys
from enum import Enum
from itertools import product
from types import ModuleType

import torch


class ConvAlgo(Enum):
    Native = 0


def get_indice_pairs(
    indices, batch_size, spatial_shape, algo, ksize, stride, padding, dilation, out_padding, subm=False, transpose=False
):
    """Sites of the result, pairs [2, K, M] of rows, how many a tap has; a subm's later half mirrors the first."""
    assert indices.dtype == torch.int32 and indices.is_contiguous() and len(indices)
    assert algo is ConvAlgo.Native and not transpose and set(dilation) == {1} and set(out_padding) == {0}
    assert all(
        isinstance(argument, list) for argument in (spatial_shape, ksize, stride, padding, dilation, out_padding)
    )
    sites = [tuple(site) for site in indices.tolist()]
    assert all(b < batch_size and (torch.tensor(p) < torch.tensor(spatial_shape)).all() for b, *p in sites)
    taps = list(product(*map(range, ksize)))
    size = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(spatial_shape, padding, ksize, stride, strict=True)]
    joined = [[] for _ in taps]
    for m, (b, *place) in enumerate(sites):
        for k, tap in enumerate(taps):
            moved = [place[a] + padding[a] - tap[a] for a in range(3)]
            out = [moved[a] // stride[a] for a in range(3)]
            if all(moved[a] % stride[a] == 0 and 0 <= out[a] < size[a] for a in range(3)):
                joined[k].append((m, (b, *out)))
    found = (
        sites if subm else sorted({site for tap in joined for _, site in tap}, key=lambda p: (p[3], -p[2], p[0], p[1]))
    )
    row = {site: n for n, site in enumerate(found)}
    pairs = torch.full((2, len(taps), len(sites)), -1, dtype=torch.int32)
    count = torch.zeros(len(taps), dtype=torch.int32)
    for k, tap in enumerate(joined):
        rows = [(m, row[site]) for m, site in tap if site in row]
        if rows and not (subm and k == len(taps) // 2):
            pairs[:, k, : len(rows)] = torch.tensor(rows, dtype=torch.int32).T
            count[k] = len(rows) if not subm or k < len(taps) // 2 else 0
    return torch.tensor(found, dtype=torch.int32), pairs, count


def _indice_conv(features, filters, pairs, count, rows, algo, subm):
    assert features.dtype == filters.dtype == torch.float32 and features.is_contiguous() and filters.is_contiguous()
    assert algo is ConvAlgo.Native and not torch.is_autocast_enabled(features.device.type)
    out_channels, in_channels = filters.shape[0], filters.shape[-1]
    taps = filters.reshape(out_channels, -1, in_channels).unbind(1)
    middle = len(taps) // 2
    out = features @ taps[middle].T if subm else features.new_zeros(rows, out_channels)
    for k, tap in enumerate(taps):
        if subm and k == middle:
            continue
        joined = int(count[len(taps) - 1 - k if subm and k > middle else k])
        source, target = pairs[:, k, :joined].long()
        out = out.index_add(0, target, features[source] @ tap.T)
    return out


def indice_subm_conv(features, filters, pairs, count, rows, algo):
    return _indice_conv(features, filters, pairs, count, rows, algo, subm=True)


def indice_conv(features, filters, pairs, count, rows, algo):
    return _indice_conv(features, filters, pairs, count, rows, algo, subm=False)


def install(monkeypatch):
    """`import spconv...` finds this module's functions, for the length of a test."""
    names = ("spconv", "spconv.core", "spconv.pytorch", "spconv.pytorch.ops", "spconv.pytorch.functional")
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    spconv, core, pytorch, ops, functional = (sys.modules[name] for name in names)
    spconv.core, spconv.pytorch, pytorch.ops, pytorch.functional = core, pytorch, ops, functional
    core.ConvAlgo, ops.get_indice_pairs = ConvAlgo, get_indice_pairs
    functional.indice_subm_conv, functional.indice_conv = indice_subm_conv, indice_conv
