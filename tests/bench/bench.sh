#!/bin/sh
# `make bench`: every speed that the documentation speaks of, beside the limit of the same run.
# About five minutes; with PyTorch installed another two.  Fails where the loss does not fall.
set -eu
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
chimera=${CHIMERA:-$root/build/chimera}
corpus=${CORPUS:-$root/.quickstart/corpus}
anchor=$root/conf/anchor.ini
say() { printf '\n== %s\n' "$*"; }

say "starting: chimera --version, 21 times"
i=0
while [ $i -lt 21 ]; do
    t0=$(date +%s%N)
    "$chimera" --version >/dev/null
    t1=$(date +%s%N)
    echo $(((t1 - t0) / 1000))
    i=$((i + 1))
done | sort -n | sed -n '11s/.*/median & microseconds/p'

if [ -d "$root/runs/quickstart/ckpt" ]; then
    say "opening and running the quickstart model"
    "$chimera" bench "$root/runs/quickstart"
fi

say "training conf/anchor.ini: f32, then ternary (integer forward), in turn"
for round in 1 2; do
    "$chimera" bench "$anchor" --train
    "$chimera" bench "$anchor" --train linear.quantizer=ternary
done

say "prefill and decode of conf/anchor.ini, ternary"
"$chimera" bench "$anchor" --read linear.quantizer=ternary

if [ -d "$corpus/train" ]; then
    say "learning: 200 steps of conf/anchor.ini on the corpus"
    "$chimera" bench "$anchor" --learn task.train="$corpus/train" task.heldout="$corpus/heldout"
else
    say "learning: skipped, there is no corpus ($root/quickstart corpus makes it)"
fi

say "kernels beside bandwidth and peaks"
"$chimera" bench "$anchor" --kernels

say "beside PyTorch"
CHIMERA=$chimera sh "$here/compare.sh" || [ $? = 77 ]
