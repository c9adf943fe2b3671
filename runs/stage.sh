# What the stages share: sizes by preset, where things lie, one slice of training. It is sourced, not run.
#
# PRESET=base  nano | base | wide            OUT=out/$PRESET   everything that a run leaves
# MINUTES=9    of a slice                    PROCESSES=1       more than 1: torchrun
# WORLDS       folders to cut clips from; $OUT/data/worlds/* unless given
# LAUNCH       options of accelerate launch, as --multi_gpu, which then takes the place of torchrun
# STEPS BATCH ACCUMULATE RATE COUNT          instead of a stage's own
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PRESET=${PRESET:-base}
OUT=${OUT:-out/$PRESET}
MINUTES=${MINUTES:-9}
PROCESSES=${PROCESSES:-1}
SEED=${SEED:-0}
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
MORE=75 # EX_TEMPFAIL: run it again

fail() {
    echo "error: $*" >&2
    exit 2
}

# Whether there is a file of such a name; a large model lies in parts, its model.json stands for it.
made() { compgen -G "$1" >/dev/null; }

# by_preset NANO BASE WIDE
by_preset() {
    case $PRESET in
    nano) echo "$1" ;;
    base) echo "$2" ;;
    wide) echo "$3" ;;
    *) fail "PRESET=$PRESET: no such sizes; choose nano, base or wide" ;;
    esac
}
by_preset . . . >/dev/null

# What is computed with here; other settings are checked by what they are given to.
whole() {
    [[ $2 =~ ^[0-9]{1,9}$ ]] && [ "$((10#$2))" -ge 1 ] || fail "$1=$2: is no whole number from 1 on; give one, or unset $1"
}
whole PROCESSES "$PROCESSES"
[ -z "${STEPS:-}" ] || whole STEPS "$STEPS"
[[ $MINUTES =~ ^[0-9]{1,6}(\.[0-9]+)?$ ]] || fail "MINUTES=$MINUTES: is no number of minutes; give one, as MINUTES=9"

# Folders of worlds, one a line.
worlds() {
    local folder found=0
    for folder in ${WORLDS:-"$OUT"/data/worlds/*/}; do
        if [ -f "$folder/world.npz" ]; then
            found=1
            echo "${folder%/}"
        fi
    done
    [ "$found" = 1 ] || fail "${WORLDS:-$OUT/data/worlds}: no finished world; run runs/1_data.sh, or carry worlds there"
}

# The step that a run has reached.
reached() {
    "$PYTHON" - "$OUT/$1/state.json" <<'PYTHON'
import json, pathlib, sys
path = pathlib.Path(sys.argv[1])
try:
    print(int(json.loads(path.read_text())["about"]["step"]) if path.is_file() else 0)
except (KeyError, RecursionError, TypeError, ValueError):
    sys.exit(f"error: {path}: says no step; carry the run folder again, or train into another OUT")
PYTHON
}

command=("$PYTHON" -m)
if [ "$PROCESSES" -gt 1 ] && [ -z "${LAUNCH:-}" ]; then
    command+=(torch.distributed.run --standalone --nproc-per-node "$PROCESSES" -m --) # --: --start is not its own
elif [ "$PROCESSES" -gt 1 ]; then
    command+=(accelerate.commands.launch --num_processes "$PROCESSES" --num_machines 1 --mixed_precision no
        --dynamo_backend no)
    command+=($LAUNCH -m)
fi
command+=(cli)

# How long a slice may take: MINUTES of training, and some seconds to begin and to save.
slice_s=$("$PYTHON" -c "print(60 * float('$MINUTES') + 25)")

# train_slice STAGE RUN RESULT STEPS [option...]: go on for MINUTES, and leave the script unless RESULT is finished.
train_slice() {
    local stage=$1 run=$2 result=$3 steps=$4 code=0 clips now
    shift 4
    mapfile -t clips < <(worlds)
    [ "${#clips[@]}" -gt 0 ] || exit 2
    now=$(reached "$run") || exit 2
    if [ "$now" -ge "$steps" ] && made "$OUT/$run/$result"; then
        echo "$stage: finished, $steps steps; $OUT/$run/$result"
        return
    fi
    # What comes before the first step, worlds and latents, has no --minutes: the clock ends it, and it goes on later.
    timeout --kill-after=30 "$slice_s" "${command[@]}" train "$stage" "${clips[@]}" -o "$OUT/$run" \
        --steps "$steps" --minutes "$MINUTES" --seed "$SEED" "$@" || code=$?
    # 124: the clock; 143: SIGTERM, after the run saved.
    [ "$code" = 0 ] || [ "$code" = 124 ] || [ "$code" = 143 ] || exit "$code"
    now=$(reached "$run") || exit 2
    if [ "$now" -ge "$steps" ] && made "$OUT/$run/$result"; then
        echo "$stage: finished, $steps steps; $OUT/$run/$result"
        return
    fi
    echo "$stage: step $now of $steps; $((steps - now)) steps to do, run it again"
    exit $MORE
}
