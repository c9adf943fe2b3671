"""One block: plain softmax attention, gates that begin closed."""

import pytest
import torch

from dcgen.dit import inference
from dcgen.dit.block import Block, HeadNorm
from dcgen.dit.embed import rotary_table, rotate
from tests.dcgen.small import randomise

WIDTH, HEADS, TOKENS = 24, 3, 7


def table():
    return rotary_table(torch.rand(TOKENS, 4, generator=torch.Generator().manual_seed(1)) * 9, WIDTH // HEADS)


def attend_by_heads(block, x, cos, sin):
    q, k, v = block.qkv(x)[:, None].chunk(3, dim=-1)
    heads = []
    for head in range(HEADS):
        cut = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
        a = rotate(block.query_norm(q[..., cut]), cos, sin)
        b = rotate(block.key_norm(k[..., cut]), cos, sin)
        weight = (a @ b.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5).softmax(-1)
        heads.append(weight @ v[..., cut])
    return block.out(torch.cat(heads, dim=-1)[:, 0])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_attention_equals_softmax_head_by_head(dtype, tolerance):
    block, x = randomise(Block(WIDTH, HEADS, 2)), torch.randn(2, TOKENS, WIDTH)
    got = block.to(dtype).attend(x.to(dtype), *table())
    want = attend_by_heads(block.float(), x, *table())
    assert (got.float() - want).norm() < tolerance * want.norm()


def test_gates_begin_closed():
    block, x = Block(WIDTH, HEADS, 2), torch.randn(2, TOKENS, WIDTH)
    assert torch.equal(block(x, torch.zeros(2, 6, WIDTH), *table()), x)


def test_modulation_is_a_chunk_s_own():
    block, x = randomise(Block(WIDTH, HEADS, 2)), torch.randn(2, TOKENS, WIDTH)
    modulation = torch.randn(2, 6, WIDTH)
    before = block(x, modulation, *table())
    modulation[1] += 1
    after = block(x, modulation, *table())
    torch.testing.assert_close(after[0], before[0])
    assert not torch.allclose(after[1], before[1])


def test_head_norm_has_unit_power():
    x = torch.randn(2, HEADS, TOKENS, 8) * 30
    torch.testing.assert_close(HeadNorm(8)(x).square().mean(-1), torch.ones(2, HEADS, TOKENS))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("loud", [1, 30], ids=["bounded", "unbounded"])
def test_fewer_passes_give_the_same_numbers(batch, loud, monkeypatch):
    """loud heads have logits whose exp has no place in float32."""
    monkeypatch.setattr(inference, "QUERIES", 3)  # the last of three pieces is shorter
    block, x = randomise(Block(WIDTH, HEADS, 2)), torch.randn(batch, TOKENS, WIDTH)
    block.query_norm.scale.data *= loud
    block.key_norm.scale.data *= loud
    modulation = torch.randn(batch, 6, WIDTH)
    plain = block(x, modulation, *table())
    kept = x.clone()
    with torch.inference_mode():
        quick = block(x, modulation, *table())
    assert plain.requires_grad and not quick.requires_grad
    assert torch.equal(x, kept), "the input is the caller's"
    torch.testing.assert_close(quick, plain.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loud", [1, 30], ids=["bounded", "unbounded"])
def test_many_tokens_attend_in_the_cache_in_bfloat16_too(loud, monkeypatch):
    """As near to float32 as the plain way in bfloat16 is."""
    monkeypatch.setattr(inference, "QUERIES", 3)
    monkeypatch.setattr(inference, "MANY", TOKENS)
    block, x = randomise(Block(WIDTH, HEADS, 2)), torch.randn(2, TOKENS, WIDTH)
    block.query_norm.scale.data *= loud
    block.key_norm.scale.data *= loud
    used = []
    within = inference.attention
    monkeypatch.setattr(inference, "attention", lambda q, *rest: used.append(q.dtype) or within(q, *rest))
    exact = block.attend(x, *table())
    assert not used
    with torch.autocast("cpu", torch.bfloat16):
        plain = block.attend(x, *table())
        assert not used
        with torch.inference_mode():
            quick = block.attend(x, *table())
    assert used == [torch.bfloat16] and quick.dtype == plain.dtype == torch.bfloat16
    off, usual = ((got.float() - exact).norm() / exact.norm() for got in (quick, plain))
    assert off < 1.5 * usual < 0.1


def test_gelu_in_place_equals_torch_s():
    x = torch.linspace(-30, 30, 4 * inference.ROWS + 5)[:, None].repeat(1, 3)[None]
    want = torch.nn.functional.gelu(x, approximate="tanh")
    torch.testing.assert_close(inference.gelu_(x), want, rtol=1e-5, atol=1e-6)
