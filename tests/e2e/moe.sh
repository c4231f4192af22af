#!/bin/sh
# A mixture of experts in a run: micro-batches count as one step for the balance, threads change no bit,
# a resumed run is the uninterrupted one, metrics hold the imbalance, and generation works in ternary.
set -eu
. "$srcdir/tests/e2e/lib.sh"
make_corpus
cat >"$tmp/moe.ini" <<INI
include = $srcdir/conf/tiny.ini
[model]
ffn_pattern = MLP MOE
[layer.MOE]
use = moe
n_routed_experts = 6
moe_intermediate_size = 24
[train]
steps = 6
checkpoint_every = 3
[task]
train = $corpus/train
heldout = $corpus/heldout
INI
train() { dir=$tmp/$1; shift; run 0 "$CHIMERA" train "$tmp/moe.ini" run.dir="$dir" "$@"; }

# The bytes of a tensor, as numbers: safetensors is a length, a header that names offsets, and data
tensor() {
    file=$tmp/$1/ckpt/$2/model.safetensors
    header=$(od -A n -t u8 -N 8 "$file" | tr -d ' ')
    at=$(head -c $((header + 8)) "$file" | tail -c +9 | tr '{' '\n' |
        grep -A 1 "\"$3\"" | tail -n 1 | sed -n 's/.*"data_offsets":\[\([0-9]*\),\([0-9]*\)\].*/\1 \2/p')
    [ -n "$at" ] || { no "$file has no $3"; return; }
    set -- $at
    tail -c +$((header + 9 + $1)) "$file" | head -c $(($2 - $1)) | od -A n -t f4 -v
}
bias=layers.1.ffn.gate.e_score_correction_bias

# One step of four sequences, at once or one by one: the same loads, so the same move of the bias
train whole train.steps=1
train parts train.steps=1 train.micro_batch=1
one=0000000001
whole=$(tensor whole $one $bias)
[ "$whole" = "$(tensor parts $one $bias)" ] && ok || no "micro-batches: $whole and $(tensor parts $one $bias)"
set -- $whole
[ $# -eq 6 ] && ok || no "a bias of 6 numbers: $whole"
moved=0
for b; do
    case $b in
    0.001 | -0.001) moved=$((moved + 1)) ;;
    0) ;;
    *) no "a bias moved by $b" ;;
    esac
done
[ $moved -ge 4 ] && ok || no "the bias hardly moved: $whole"
train still train.steps=1 layer.MOE.bias_update=0
[ -z "$(tensor still $one $bias | tr -d ' 0\n')" ] && ok || no "bias_update=0 moved the bias"
grep -q '"moe_expert_load_balance":[0-9]' "$tmp/whole/metrics.jsonl" && ok || no "metrics lack the imbalance"
value() { sed -n 's/.*"moe_expert_load_balance":\([0-9.]*\).*/\1/p' "$tmp/$1/metrics.jsonl" | head -n 1; }
[ "$(value whole)" = "$(value parts)" ] && ok || no "imbalance of micro-batches: $(value whole) and $(value parts)"

# Loads summed over all that is held out: in the line of the measurement, the same for every cut of the calls,
# and not what a batch has
grep '"heldout_bpb"' "$tmp/whole/metrics.jsonl" | grep -q '"moe_global_load_balance":[0-9]' && ok || no "no global imbalance"
for chunk in 7 512; do
    run 0 "$CHIMERA" eval "$tmp/whole" --chunk $chunk -o json
    cp "$tmp/out" "$tmp/eval.$chunk"
done
says out '"tokens":[0-9]*,"moe_global_load_balance":[0-9.e-]*}$'
same_file() { cmp "$1" "$2" && ok || no "$1 and $2 differ"; }
same_file "$tmp/eval.7" "$tmp/eval.512"
run 0 "$CHIMERA" eval "$tmp/whole"
says out '^moe_global_load_balance +[0-9]'

# Threads and interruption
same() { cmp "$tmp/$1/ckpt/0000000006/model.safetensors" "$tmp/$2/ckpt/0000000006/model.safetensors" && ok || no "$1 and $2 differ"; }
train full train.micro_batch=2
train threads train.micro_batch=2 run.threads=3
same full threads
cp -r "$tmp/full" "$tmp/again"
rm -r "$tmp/again/ckpt/0000000006"
run 0 "$CHIMERA" train --resume "$tmp/again"
same full again
train recomputed train.micro_batch=2 train.recompute=block
same full recomputed

run 0 "$CHIMERA" generate "$tmp/full" -p 'line 3' -n 12
[ -s "$tmp/out" ] && ok || no "nothing was generated"
run 0 "$CHIMERA" eval "$tmp/full"
says out 'bits per byte'
run 0 "$CHIMERA" inspect "$tmp/moe.ini"
says out 'of which a token meets'
bad 2 'num_experts_per_tok = 7, but there are n_routed_experts = 6' "$CHIMERA" train "$tmp/moe.ini" run.dir="$tmp/no" \
    layer.MOE.num_experts_per_tok=7
finish
