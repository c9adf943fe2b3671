"""Sparse convolutions by spconv, on CUDA. M sites, K taps, C and D channels, N coarse sites. The twin of torch_conv.py.

spconv numbers sites with int32, wants kernels as [out, x, y, z, in] and multiplies float32: it knows no bfloat16, and
left to autocast it would take float16, in which gradients vanish. So it gets float32 with autocast off, and its
values leave in the type of the twin's. Its algorithm is the plain one, a gather, product and scatter a tap, which
copes with every size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from dcgen.vae.sparse import SparseVolume, Triple, four, linear_index
from dcgen.vae.torch_conv import product_dtype


@dataclass(frozen=True)
class Pairs:
    """Rule book of a submanifold convolution: tap k adds site table[0, k, i] to site table[1, k, i], i < count[k].

    spconv fills in count for the taps before the middle one alone: those after it mirror them.
    """

    table: Int32[Tensor, "2 K M"]
    count: Int32[Tensor, " K"]

    def convolve(self, features: Float[Tensor, "M C"], weight: Float[Tensor, "3 3 3 C D"]) -> Float[Tensor, "M D"]:
        """Sums over the taps of every site, in autocast's type where autocast is on."""
        from spconv.pytorch.functional import indice_subm_conv

        return _convolve(indice_subm_conv, features, weight, self.table, self.count, len(features))


@dataclass(frozen=True)
class StridedPairs:
    """Rule book of a strided convolution. spconv has the coarse sites in an order of its own; `order` makes it ours."""

    table: Int32[Tensor, "2 K M"]
    count: Int32[Tensor, " K"]
    order: Int[Tensor, " N"]  # spconv's row of each coarse site
    indices: Int[Tensor, "N 4"]
    shape: tuple[int, int, int, int]

    def convolve(self, features: Float[Tensor, "M C"], weight: Float[Tensor, "sx sy sz C D"]) -> Float[Tensor, "N D"]:
        """Sums over the fine sites of every coarse one, in autocast's type where autocast is on."""
        from spconv.pytorch.functional import indice_conv

        out = _convolve(indice_conv, features, weight, self.table, self.count, len(self.order))
        return out.index_select(0, self.order)


def find_neighbours(volume: SparseVolume) -> Pairs:
    """Rule book of 3x3x3 taps."""
    _, table, count = _find_pairs(volume, volume.shape[1:], (3, 3, 3), (1, 1, 1), padding=1, submanifold=True)
    return Pairs(table, count)


def find_children(volume: SparseVolume, stride: Triple) -> StridedPairs:
    """Rule book of a convolution whose kernel is its stride; a coarse site is active where a fine one is."""
    b, *fine = volume.shape
    coarse = [-(-n // s) for n, s in zip(fine, stride, strict=True)]
    # spconv would leave out what lies beyond the last whole kernel, so it is told of a volume of whole ones.
    whole = [n * s for n, s in zip(coarse, stride, strict=True)]
    found, table, count = _find_pairs(volume, whole, stride, stride, padding=0, submanifold=False)
    indices, shape = found.long(), four((b, *coarse))
    order = linear_index(indices, shape).argsort()
    return StridedPairs(table, count, order, indices.index_select(0, order), shape)


def _find_pairs(
    volume: SparseVolume, size: Sequence[int], kernel: Triple, stride: Triple, padding: int, submanifold: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Sites [N, 4] of the result in spconv's order, the pairs [2, K, M], and how many each tap has [K]."""
    from spconv.core import ConvAlgo
    from spconv.pytorch import ops

    with torch.cuda.device_of(volume.indices):
        found: tuple[Tensor, Tensor, Tensor] = ops.get_indice_pairs(
            volume.indices.to(torch.int32).contiguous(),  # strides are not looked at
            volume.shape[0],
            list(size),
            ConvAlgo.Native,
            ksize=list(kernel),
            stride=list(stride),
            padding=[padding] * 3,
            dilation=[1] * 3,
            out_padding=[0] * 3,
            subm=submanifold,
        )
    return found


def _convolve(
    function: Callable[..., Any], features: Tensor, weight: Tensor, table: Tensor, count: Tensor, rows: int
) -> Tensor:
    """[rows, out] values of spconv's autograd function, on our weight [x, y, z, in, out]."""
    from spconv.core import ConvAlgo

    kernel = weight.permute(4, 0, 1, 2, 3).float().contiguous()
    with torch.cuda.device_of(features), torch.autocast(features.device.type, enabled=False):
        out: Tensor = function(features.float().contiguous(), kernel, table, count, rows, ConvAlgo.Native)
    return out.to(product_dtype(features))
