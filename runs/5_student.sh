#!/usr/bin/env bash
# A student that samples in four steps what its teacher does in many. Leaves $OUT/student/model.
. "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
made "$OUT/dit/model/model.[sj]*" || fail "$OUT/dit/model: no such model; run runs/4_dit.sh"

# Rate: half of the transformer's own, since its weights are where it begins. Trajectories of the teacher are made once.
train_slice student student "model/model.[sj]*" "${STEPS:-$(by_preset 600 3000 3000)}" --preset "$PRESET" \
    --start "$OUT/dit/model" --trajectories "${TRAJECTORIES:-$(by_preset 400 2000 2000)}" \
    --batch "${BATCH:-$(by_preset 8 32 32)}" --learning-rate "${RATE:-$(by_preset 4e-4 4e-4 2e-4)}" \
    --count "${COUNT:-$(by_preset 10000 20000 12000)}"
