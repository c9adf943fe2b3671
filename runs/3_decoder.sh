#!/usr/bin/env bash
# The decoder once more, on latents as noisy as a sampler's. Leaves $OUT/decoder/ema.safetensors.
. "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
[ -f "$OUT/vae/ema.safetensors" ] || fail "$OUT/vae/ema.safetensors: no such autoencoder; run runs/2_vae.sh"

# A third of the autoencoder's rate and a fifth of its steps: the encoder stands still, the decoder only learns to forgive.
train_slice decoder decoder ema.safetensors "${STEPS:-$(by_preset 1000 2500 5000)}" --preset "$PRESET" \
    --vae "$OUT/vae" --batch "${BATCH:-$(by_preset 16 16 4)}" --accumulate "${ACCUMULATE:-$(by_preset 1 1 2)}" \
    --learning-rate "${RATE:-5e-4}" --count "${COUNT:-1000000}"
