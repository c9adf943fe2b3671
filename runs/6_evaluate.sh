#!/usr/bin/env bash
# Figures of the model, and of its student, on a map that no world was built on. Leaves $OUT/evaluate/*.json.
#
# MAP     an OpenDRIVE file; its world is built with SUMO, once, and kept
# CLIPS=200  GENERATE=100  LONG=4
. "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
[ -n "${MAP:-}" ] || fail "MAP is missing; give an OpenDRIVE file that the model has not seen"

mkdir -p "$OUT/evaluate"
for name in ${MODELS:-dit student}; do
    result=$OUT/evaluate/$name.json
    if [ -f "$result" ]; then
        echo "evaluate: finished; $result"
        continue
    fi
    made "$OUT/$name/model/model.[sj]*" || fail "$OUT/$name/model: no such model; run the stage before"
    code=0
    timeout --kill-after=30 "$slice_s" "$PYTHON" -m cli evaluate --map "$MAP" \
        --model "$OUT/$name/model" --clips "${CLIPS:-200}" --generate "${GENERATE:-100}" --long "${LONG:-4}" \
        --seed "$SEED" --json >"$result.partial" || code=$?
    if [ "$code" != 0 ]; then
        rm -f "$result.partial"
        [ "$code" = 124 ] || exit "$code"
        fail "$name: not measured in $MINUTES minutes; raise MINUTES, or lower CLIPS, GENERATE or LONG"
    fi
    mv "$result.partial" "$result"
    echo "evaluate: $name measured; $result"
    # A slice holds one model.
    [ "$name" = student ] || [ -n "${MODELS:-}" ] || { echo "evaluate: the student is still to do; run it again" && exit $MORE; }
done
