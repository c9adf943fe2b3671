"""A block's arithmetic on a CPU where no gradient is asked: fewer passes over memory, the same numbers to rounding.

B batch, N token, W width, H head, E channels of a head. What is plain lies in block.py and is what these are tested
against. Products of matrices run at the machine's full rate; the passes between them are what can be saved.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

ROWS = 64  # of an activation at a time: what a core's own cache holds
QUERIES = 236  # of a head at a time, against all its keys
MANY = 1024  # tokens, from which logits in bfloat16 leave the cache: 2.7 times as fast at 1416, slower at 610
SAFE_LOGIT = 60.0  # exp of it, summed over any number of tokens, is far from float32's largest number


def applies(x: Tensor) -> bool:
    """Whether these may stand in: float32 on a CPU, no gradient."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled()


def attends_in_cache(qkv: Tensor) -> bool:
    """Whether `turned` and `attention` may stand in: as above, and in bfloat16 where there are many tokens."""
    many = qkv.dtype == torch.bfloat16 and qkv.shape[1] >= MANY
    return applies(qkv) or (many and qkv.device.type == "cpu" and not torch.is_grad_enabled())


def modulated(
    x: Float[Tensor, "B N W"], shift: Float[Tensor, "B 1 W"], scale: Float[Tensor, "B 1 W"]
) -> Float[Tensor, "B N W"]:
    """Layer norm, then the modulation, as one affine norm where there is one chunk."""
    if len(x) > 1:
        return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), 1 + scale)
    return F.layer_norm(x, x.shape[-1:], 1 + scale[0, 0], shift[0, 0])


def gelu_(x: Float[Tensor, "B N W"]) -> Float[Tensor, "B N W"]:
    """GELU in its tanh form, in place: (1 + tanh(a)) / 2 is the sigmoid of 2 a, a third of tanh's form in torch."""
    for rows in x.view(-1, x.shape[-1]).split(ROWS):
        gate = (rows * rows).mul_(0.07135481627159766).add_(1.5957691216057308)  # 2 sqrt(2 / pi) (1 + 0.044715 x^2)
        rows.mul_(gate.mul_(rows).sigmoid_())
    return x


def turned(
    x: Float[Tensor, "B N H E"], scale: Float[Tensor, " E"], cos: Float[Tensor, "N R"], sin: Float[Tensor, "N R"]
) -> Float[Tensor, "B N H E"]:
    """RMS norm, learned scale and rotation of every head: a rotation leaves the norm, so it is divided by at last."""
    half = x.shape[-1] // 2
    turn, cross = scale * cos.repeat(1, 2), scale * torch.cat([sin, -sin], dim=1)
    out = x * turn[:, None]
    out[..., :half].addcmul_(x[..., half:], cross[:, None, half:])
    out[..., half:].addcmul_(x[..., :half], cross[:, None, :half])
    power = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square_().div_(x.shape[-1])
    return out.mul_(power.add_(1e-6).rsqrt_()).to(x.dtype)


def attention(
    q: Float[Tensor, "B N H E"], k: Float[Tensor, "B N H E"], v: Float[Tensor, "B N H E"], most: float
) -> Float[Tensor, "B N HE"]:
    """Softmax attention of queries and keys whose logits lie within +-most.

    Normed queries and keys bound the logits, so the softmax needs no maximum taken off: one exp in the cache, between
    two products.
    """
    if most > SAFE_LOGIT:
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    batch, tokens, heads, channels = q.shape
    out = q.new_empty(batch, tokens, heads, channels)
    logits = q.new_empty(min(QUERIES, tokens), tokens)
    for b in range(batch):
        for h in range(heads):
            keys = (k[b, :, h] * channels**-0.5).t().contiguous()
            values = v[b, :, h].contiguous()
            for start in range(0, tokens, QUERIES):
                some = q[b, start : start + QUERIES, h]
                weight = torch.mm(some, keys, out=logits[: len(some)]).exp_()
                total = weight.sum(dim=1, keepdim=True, dtype=torch.float32)
                torch.div(weight @ values, total, out=out[b, start : start + QUERIES, h])
    return out.flatten(2)
