#!/usr/bin/env bash
# Worlds to train on, with SUMO, on a machine that has the maps. Runs on CPUs; carry $OUT/data/worlds to the GPU.
#
# MAPS    words of `dcgen dataset build --maps`; the library's, and random networks, unless given
# SECONDS_OF_TRAFFIC, WORLDS_A_MAP, WORKERS
. "$(dirname "${BASH_SOURCE[0]}")/stage.sh"

# Figures fall with the number of distinct towns, not of clips: a world holds tens of thousands of those.
read -r -a maps <<<"${MAPS:-avenue crossroads ring random:$(by_preset 8 24 24)}"
grid=$(by_preset nano carlasc wide)
options=()
count=0
for map in "${maps[@]}"; do
    options+=(--maps "$map")
    case $map in
    random:*) count=$((count + ${map#random:})) ;;
    *) if [ -d "$map" ]; then count=$((count + $(find "$map" -name '*.xodr' | wc -l))); else count=$((count + 1)); fi ;;
    esac
done
index=$OUT/data/worlds.done
if [ -f "$index" ] && [ "$(cat "$index")" = "${maps[*]}" ]; then
    echo "data: finished, $(worlds | wc -l) worlds in $OUT/data/worlds"
    exit 0
fi
code=0
# 64 clips a world are indexed, so that every world is built: training cuts its own. A stopped build goes on with the
# worlds that stand.
timeout --signal=INT --kill-after=30 "$slice_s" "$PYTHON" -m cli dataset build \
    "${options[@]}" --clips "${COUNT:-$((64 * count * ${WORLDS_A_MAP:-1}))}" --grid "$grid" --frames "$(by_preset 8 16 16)" --dt "$(by_preset 0.2 0.1 0.1)" \
    --worlds "${WORLDS_A_MAP:-1}" --seconds "${SECONDS_OF_TRAFFIC:-300}" --workers "${WORKERS:-$(nproc)}" \
    --seed "$SEED" -o "$OUT/data" || code=$?
if [ "$code" = 124 ] || [ "$code" = 130 ]; then
    echo "data: $(find "$OUT/data/worlds" -name world.npz 2>/dev/null | wc -l) worlds stand; run it again"
    exit $MORE
fi
[ "$code" = 0 ] || exit "$code"
echo "${maps[*]}" >"$index"
echo "data: finished, $(worlds | wc -l) worlds, $(du -sh "$OUT/data/worlds" | cut -f1); $OUT/data/worlds"
