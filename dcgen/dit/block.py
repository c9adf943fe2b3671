"""One transformer block: fused attention with rotary positions, MLP, shared adaLN. B batch, N token, W width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from dcgen.dit import inference
from dcgen.dit.embed import rotate


class HeadNorm(nn.Module):
    """RMS norm over a head's channels, in the type the head comes in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Float[Tensor, "B H N E"]) -> Float[Tensor, "B H N E"]:
        power = x.square().mean(dim=-1, keepdim=True, dtype=torch.float32)
        return x * torch.rsqrt(power + 1e-6).to(x.dtype) * self.scale.to(x.dtype)


def attention(
    q: Float[Tensor, "B H N E"], k: Float[Tensor, "B H M E"], v: Float[Tensor, "B H M E"]
) -> Float[Tensor, "B H N E"]:
    """Softmax attention: the fused kernel, except for bfloat16 on a CPU, where plain products are twice as fast."""
    if q.device.type != "cpu" or q.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q, k, v)
    return ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(dim=-1) @ v


class Block(nn.Module):
    """adaLN-Zero (DiT, arXiv 2212.09748); the modulation is computed once for all blocks and each adds its own
    offset (adaLN-single of PixArt-alpha, arXiv 2310.00426)."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.query_norm = HeadNorm(width // heads)
        self.key_norm = HeadNorm(width // heads)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_ratio * width), nn.GELU(approximate="tanh"), nn.Linear(mlp_ratio * width, width)
        )
        self.offset = nn.Parameter(torch.zeros(6, width))

    def attend(self, x: Float[Tensor, "B N W"], cos: Tensor, sin: Tensor) -> Float[Tensor, "B N W"]:
        qkv = self.qkv(x)
        if inference.attends_in_cache(qkv):
            return self.out(self._attend_in_cache(qkv, cos, sin))
        q, k, v = rearrange(qkv, "b n (three h e) -> three b h n e", three=3, h=self.heads)
        q, k = rotate(self.query_norm(q), cos, sin), rotate(self.key_norm(k), cos, sin)
        return self.out(rearrange(attention(q, k, v), "b h n e -> b n (h e)"))

    def _attend_in_cache(self, qkv: Float[Tensor, "B N W3"], cos: Tensor, sin: Tensor) -> Float[Tensor, "B N W"]:
        q, k, v = rearrange(qkv, "b n (three h e) -> three b n h e", three=3, h=self.heads)
        scales = self.query_norm.scale, self.key_norm.scale
        most = float(scales[0].abs().max() * scales[1].abs().max()) * q.shape[-1] ** 0.5
        q, k = (inference.turned(x, scale, cos, sin) for x, scale in zip((q, k), scales, strict=True))
        return inference.attention(q, k, v, most)

    def forward(
        self, x: Float[Tensor, "B N W"], modulation: Float[Tensor, "B 6 W"], cos: Tensor, sin: Tensor
    ) -> Float[Tensor, "B N W"]:
        m = (modulation + self.offset)[:, :, None]
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = m.unbind(1)
        if inference.applies(x):
            x = torch.addcmul(x, gate, self.attend(inference.modulated(x, shift, scale), cos, sin))
            hidden = self.mlp[0](inference.modulated(x, shift_mlp, scale_mlp))
            hidden = inference.gelu_(hidden) if inference.applies(hidden) else self.mlp[1](hidden)
            return torch.addcmul(x, gate_mlp, self.mlp[2](hidden))
        x = x + gate * self.attend(self.norm(x) * (1 + scale) + shift, cos, sin)
        return x + gate_mlp * self.mlp(self.norm(x) * (1 + scale_mlp) + shift_mlp)
