#!/bin/sh
# `make mini`: conf/chimera-mini.ini for an hour; prints its loss curve and tokens per hour.
# `make mini-seeds`: the same model for STEPS steps (default 300) with five seeds; prints each one's held-out bits per
# byte, mean and standard deviation: what two variants must differ by before anybody should believe it.
# Run folders go to $RUNS (default: runs/); what is done is not done again.
set -eu
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
chimera=${CHIMERA:-$root/build/chimera}
corpus=${CORPUS:-$root/.quickstart/corpus}
runs=${RUNS:-$root/runs}
[ -d "$corpus/train" ] || { echo "mini.sh: no corpus in $corpus: run ./quickstart corpus, or set CORPUS"; exit 77; }

# train FOLDER WORD...: goes on where an earlier call was stopped
train() {
    dir=$1
    shift
    resume=
    if [ -d "$dir" ]; then resume=--resume; fi
    "$chimera" train "$root/conf/chimera-mini.ini" $resume task.train="$corpus/train" task.heldout="$corpus/heldout" \
        run.dir="$dir" "$@"
}
heldout() { sed -n 's/.*"heldout_bpb": *\([0-9.]*\).*/\1/p' "$1/metrics.jsonl" | tail -n 1; }
number() { sed -n "s/.*\"$2\": *\\([0-9.eE+-]*\\).*/\\1/p" "$1/metrics.jsonl"; }

case ${1:-hour} in
hour)
    dir=$runs/chimera-mini
    train "$dir"
    echo "loss in nats a byte, means over tenths of the run:"
    number "$dir" loss | awk '{ x[NR] = $1 } END { for (k = 0; k < 10; k++) { s = 0; n = 0
        for (i = int(k * NR / 10) + 1; i <= int((k + 1) * NR / 10); i++) { s += x[i]; n++ }
        if (n) printf "  to step %6d  %.4f\n", int((k + 1) * NR / 10), s / n } }'
    number "$dir" tok_s | awk '{ s += 1 / $1; n++ } END { printf "tokens per hour: %.2f million\n", 3600 * n / s / 1e6 }'
    echo "held-out bits per byte: $(heldout "$dir")" ;;
seeds)
    steps=${STEPS:-300}
    for seed in 1 2 3 4 5; do
        train "$runs/mini-seed$seed-$steps" train.steps="$steps" train.minutes=0 run.seed=$seed
    done
    for seed in 1 2 3 4 5; do heldout "$runs/mini-seed$seed-$steps"; done |
        awk '{ x[NR] = $1; s += $1; printf "seed %d: held-out bits per byte %.5f\n", NR, $1 }
             END { m = s / NR; for (i in x) v += (x[i] - m) ^ 2; printf "mean %.5f, standard deviation %.5f (n = %d)\n",
                   m, sqrt(v / (NR - 1)), NR }' ;;
*)  echo "mini.sh: hour or seeds, not $1"; exit 2 ;;
esac
