"""The diffusion transformer: a velocity field on normalised latents. B batch, D latent values, N token, W width."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from dcgen.config import ModelConfig
from dcgen.dit.block import Block
from dcgen.dit.conditioning import ConditionBatch, LayoutCondition, VectorCondition
from dcgen.dit.embed import Tokens, rotary_table


class Dit(nn.Module):
    """v(x, t | conditions) over the padded rollout's tokens and the volume's."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dit = config.dit
        self.config = config
        self.tokens = Tokens(config, inputs=2)
        self.vector = VectorCondition(dit.width)
        self.layout = LayoutCondition(config)
        modulate, final = nn.Linear(dit.width, 6 * dit.width), nn.Linear(dit.width, 2 * dit.width)
        self.modulation = nn.Sequential(nn.SiLU(), modulate)
        self.blocks = nn.ModuleList(Block(dit.width, dit.heads, dit.mlp_ratio) for _ in range(dit.depth))
        self.norm = nn.LayerNorm(dit.width, elementwise_affine=False)
        self.final = nn.Sequential(nn.SiLU(), final)
        for layer in (modulate, final):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def prepare(self, conditions: ConditionBatch) -> tuple[Float[Tensor, "B N W"], Float[Tensor, "B D"], Tensor]:
        """What does not depend on the noise: layout tokens, known latents and the condition vector [B, W]."""
        known = conditions.known * conditions.present[:, None]
        return self.layout(conditions), known, self.vector.given(conditions)

    def velocity(
        self, latents: Float[Tensor, "B D"], time: Float[Tensor, " B"], prepared: tuple[Tensor, Tensor, Tensor]
    ) -> Float[Tensor, "B D"]:
        """The field at prepared conditions, so that a sampler prepares once for all its steps."""
        layout, known, given = prepared
        x = self.tokens.embed(latents, known) + layout
        vector = self.vector.at(time) + given
        modulation = self.modulation(vector).unflatten(1, (6, -1))
        cos, sin = rotary_table(self.tokens.position, self.config.dit.width // self.config.dit.heads)
        for block in self.blocks:
            x = block(x, modulation, cos, sin)
        shift, scale = self.final(vector)[:, None].chunk(2, dim=2)
        return self.tokens.leave(self.norm(x) * (1 + scale) + shift)

    def forward(
        self, latents: Float[Tensor, "B D"], time: Float[Tensor, " B"], conditions: ConditionBatch
    ) -> Float[Tensor, "B D"]:
        return self.velocity(latents, time, self.prepare(conditions))
