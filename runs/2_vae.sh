#!/usr/bin/env bash
# The autoencoder, on clips that are cut on the GPU. Leaves $OUT/vae/ema.safetensors.
. "$(dirname "${BASH_SOURCE[0]}")/stage.sh"

# Batch: what is kept for the backward pass grows with the decoded frames' voxels, 8 x those of nano in base, 20 x in
# wide. 16 and 4 clips are estimates for 80 GB; a step that asks for more says so in one line: lower BATCH and raise
# ACCUMULATE, the run goes on. Rate: 1.5e-3 held at batch 4 on nano; larger grids have noisier movers, so a little less.
# Steps: nano was good after 2,000 x 4 clips; base and wide see 24 times as many.
train_slice vae vae ema.safetensors "${STEPS:-$(by_preset 4000 12000 24000)}" --preset "$PRESET" \
    --batch "${BATCH:-$(by_preset 16 16 4)}" --accumulate "${ACCUMULATE:-$(by_preset 1 1 2)}" \
    --learning-rate "${RATE:-$(by_preset 1.5e-3 1.2e-3 1.2e-3)}" --count "${COUNT:-1000000}" ${START:+--start "$START"}
