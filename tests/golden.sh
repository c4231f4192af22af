#!/bin/sh
# golden.sh - runs every reference vector file whose components exist, from
# $CHIMERA_GOLDEN or ../shared/golden beside the source tree.  Files of the subjects in
# $required must run: a missing component of theirs is a failure, not a skip.
set -eu

folder=${CHIMERA_GOLDEN:-$srcdir/../shared/golden}
required='gated_deltanet mlstm span_knot titans_mac moe attention swiglu linear_ternary model_dense model_loop'

if [ ! -d "$folder" ]; then
    echo "golden.sh: no reference vectors in $folder (set CHIMERA_GOLDEN to their folder): skipped"
    exit 77
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 skipped=0 failed=0

is_required() {
    for subject in $required; do
        case $1 in "$subject"*) return 0 ;; esac
    done
    return 1
}

for file in "$folder"/*.safetensors; do
    [ -e "$file" ] || { echo "golden.sh: $folder holds no .safetensors file: skipped"; exit 77; }
    name=$(basename "$file")
    code=0
    "$CHIMERA" validate --vectors "$file" >"$log" 2>&1 || code=$?
    if [ $code = 0 ]; then
        passed=$((passed + 1))
        echo "ok      $name: $(grep -c tolerance "$log") checks"
    elif grep -q '^skipped ' "$log" && ! is_required "$name"; then
        skipped=$((skipped + 1))
        echo "$(grep '^skipped ' "$log" | sed "s|$folder/||")"
    else
        failed=$((failed + 1))
        echo "FAILED  $name (exit code $code)"
        grep -E 'MISSED|^chimera:' "$log" || tail -n 5 "$log"
    fi
done

echo "golden.sh: $passed passed, $skipped skipped, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
