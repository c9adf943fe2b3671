"""The diffusion transformer: a velocity field on normalised latents. B batch, D latent values, N token, W width."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from dcgen.config import ModelConfig
from dcgen.dit.block import Block
from dcgen.dit.conditioning import ConditionBatch, LayoutCondition, VectorCondition
from dcgen.dit.embed import Tokens, rotary_table
from dcgen.dit.local import LocalHead, Near
from dcgen.measure import recomputed


@dataclass(frozen=True)
class Prepared:
    """What does not depend on the noise: made once for all the steps of a sampler."""

    layout: Float[Tensor, "B N W"]
    known: Float[Tensor, "B D"]
    vector: Float[Tensor, "B W"]
    near: Near | None  # the layout near each cell, for the local head where there is one

    def repeated(self, times: int) -> Prepared:
        """Each chunk's, so many times in succession."""
        layout, known, vector = (p.repeat_interleave(times, dim=0) for p in (self.layout, self.known, self.vector))
        return Prepared(layout, known, vector, self.near.repeated(times) if self.near is not None else None)


class Dit(nn.Module):
    """v(x, t | conditions) over the padded rollout's tokens and the volume's.

    With an interval the field is u(x, t, s | conditions), the average velocity of a step from t to s (MeanFlow,
    arXiv 2505.13447); u(x, t, t) is the velocity.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dit = config.dit
        self.config = config
        self.checkpointing = False  # of blocks in training
        self.tokens = Tokens(config, inputs=2)
        # In units of half a token: the same frequencies serve patches of every size.
        cos, sin = rotary_table(self.tokens.position * (2 / dit.patch), dit.width // dit.heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.vector = VectorCondition(dit.width, dit.interval)
        self.layout = LayoutCondition(config)
        modulate, final = nn.Linear(dit.width, 6 * dit.width), nn.Linear(dit.width, 2 * dit.width)
        self.modulation = nn.Sequential(nn.SiLU(), modulate)
        self.blocks = nn.ModuleList(Block(dit.width, dit.heads, dit.mlp_ratio) for _ in range(dit.depth))
        self.local = LocalHead(config) if dit.local_depth else None
        self.norm = nn.LayerNorm(dit.width, elementwise_affine=False)
        self.final = nn.Sequential(nn.SiLU(), final)
        for layer in (modulate, final):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def prepare(self, conditions: ConditionBatch) -> Prepared:
        known = conditions.known * conditions.present[:, None]
        near = self.local.prepare(conditions) if self.local is not None else None
        return Prepared(self.layout(conditions), known, self.vector.given(conditions), near)

    def velocity(
        self,
        latents: Float[Tensor, "B D"],
        time: Float[Tensor, " B"],
        prepared: Prepared,
        stop: Float[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B D"]:
        """The field at prepared conditions; stop is where the step ends, for a model with an interval."""
        x = self.tokens.embed(latents, prepared.known) + prepared.layout
        vector = self.vector.at(time, stop) + prepared.vector
        modulation = self.modulation(vector).unflatten(1, (6, -1))
        for block in self.blocks:
            inputs = (x, modulation, self.cos, self.sin)
            x = recomputed(block, *inputs) if self.checkpointing else block(*inputs)
        shift, scale = self.final(vector)[:, None].chunk(2, dim=2)
        far = self.tokens.leave(self.norm(x) * (1 + scale) + shift)
        if self.local is None or prepared.near is None:
            return far
        return far + self.local(latents, prepared.known, vector, prepared.near)

    def forward(
        self, latents: Float[Tensor, "B D"], time: Float[Tensor, " B"], conditions: ConditionBatch
    ) -> Float[Tensor, "B D"]:
        return self.velocity(latents, time, self.prepare(conditions))
