"""The diffusion transformer over the padded rollout."""
