#!/usr/bin/env bash
# The transformer. Encodes every clip once, in parts that later slices go on with. Leaves $OUT/dit/model.
. "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
[ -f "$OUT/decoder/ema.safetensors" ] || fail "$OUT/decoder/ema.safetensors: no such autoencoder; run runs/3_decoder.sh"

# Clips: each takes 4 bytes a latent value and some KB of layouts, 0.13 / 0.4 / 0.95 MB in nano / base / wide, so 20,000
# of base are 8 GB; a core cuts 20 of them a second (wide: 6), so encoding takes two slices (wide: four).
# Rate: 8e-4 held at width 192 on nano and base, Adam's falls with the width, so
# 4e-4 at wide's 384. Batch: tokens are few (some hundreds a clip), 64 clips fill a GPU's matrix units. Steps: the average of
# the weights and the cooldown need a length that is fixed beforehand; change it in a new folder alone.
train_slice dit dit "model/model.[sj]*" "${STEPS:-$(by_preset 20000 40000 40000)}" --preset "$PRESET" \
    --vae "$OUT/decoder" --batch "${BATCH:-$(by_preset 64 64 32)}" --accumulate "${ACCUMULATE:-$(by_preset 1 1 2)}" \
    --learning-rate "${RATE:-$(by_preset 8e-4 8e-4 4e-4)}" --count "${COUNT:-$(by_preset 10000 20000 12000)}"
