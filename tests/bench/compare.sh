#!/bin/sh
# Training speed beside PyTorch's: both programs in turn, several rounds, so that a machine that
# warms up or is shared slows both alike; then the ratio of the medians, from this run alone.
# compare.sh [ROUNDS [THREADS]]; CHIMERA names the program.  Exit code 77: no PyTorch here.
set -eu
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
chimera=${CHIMERA:-$root/build/chimera}
rounds=${1:-5} threads=${2:-2}
python=/usr/bin/python3
# The library with OpenMP threads is the fastest of Debian's for PyTorch.
blas=$(dirname "$(find /usr/lib -path '*openblas-openmp/libblas.so.3' 2>/dev/null | head -n 1)")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if ! $python -c 'import torch' 2>/dev/null; then
    echo "compare.sh: no PyTorch here (apt-get install python3-torch libopenblas0-openmp); skipped"
    exit 77
fi
# The number that follows "KEY": in a JSON text
number() { grep -o "\"$1\": *[0-9.]*" "$2" | head -n 1 | sed 's/.*: *//'; }
median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
for f in torch ours torch_rss ours_rss; do : >"$tmp/$f"; done
round=1
while [ "$round" -le "$rounds" ]; do
    OMP_NUM_THREADS=$threads LD_LIBRARY_PATH=$blas $python "$here/torch_gdn.py" --threads "$threads" >"$tmp/t.json"
    "$chimera" bench "$root/conf/anchor.ini" run.threads="$threads" --train --json >"$tmp/c.json"
    number tok_s_median "$tmp/t.json" >>"$tmp/torch"
    number tok_s_median "$tmp/c.json" >>"$tmp/ours"
    number peak_rss_mb "$tmp/t.json" >>"$tmp/torch_rss"
    number peak_rss_mb "$tmp/c.json" >>"$tmp/ours_rss"
    [ "$(wc -l <"$tmp/ours")" = "$round" ] || { echo "compare.sh: chimera bench printed no tok_s_median"; exit 1; }
    printf 'round %d: PyTorch %s tokens/s, chimera %s tokens/s\n' "$round" \
        "$(tail -n 1 "$tmp/torch")" "$(tail -n 1 "$tmp/ours")"
    round=$((round + 1))
done
printf '%s %s %s %s\n' "$(median "$tmp/torch")" "$(median "$tmp/ours")" \
    "$(median "$tmp/torch_rss")" "$(median "$tmp/ours_rss")" | awk -v threads="$threads" '{
    printf "%d threads, medians: PyTorch %.0f tokens/s, %d MiB; chimera %.0f tokens/s, %d MiB\n", threads, $1, $3, $2, $4
    printf "ratio of speeds %.2f (wanted: 1.6), of memory %.2f (wanted: 0.33)\n", $2 / $1, $4 / $3
    exit !($2 / $1 >= 1.6 && $4 / $3 <= 0.3334) }'
