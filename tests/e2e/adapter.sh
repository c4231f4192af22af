#!/bin/sh
# Adapters in runs: what is held does not move although moments push, a frozen matrix stays as it was made, and a
# run that goes on from the middle ends in the same bits: adapters, gate and the residual of sherry included.
set -eu
. "$srcdir/tests/e2e/lib.sh"
make_corpus
# value RUN STEP TENSOR: its bytes in hex
value() {
    f=$tmp/$1/ckpt/$(printf %010d "$2")/model.safetensors
    n=$(od -A n -t u8 -N 8 "$f" | tr -d ' ')
    at=$(head -c $((8 + n)) "$f" | tail -c "$n" | sed -n "s/.*\"$3\":{[^}]*\"data_offsets\":\[\([0-9]*\),\([0-9]*\)\].*/\1 \2/p")
    from=${at% *} to=${at#* }
    tail -c +$((9 + n + from)) "$f" | head -c $((to - from)) | od -A n -t x1 | tr -d ' \n'
}
train() {
    dir=$1
    shift
    run 0 "$CHIMERA" train "$srcdir/conf/tiny.ini" "task.train=$corpus/train" "task.heldout=$corpus/heldout" train.steps=10 \
        train.checkpoint_every=1 train.keep=0 run.dir="$tmp/$dir" "$@"
}
same() { if [ "$(value "$1" "$2" "$4")" = "$(value "$1" "$3" "$4")" ]; then ok; else no "$1: $4 moves between step $2 and $3"; fi; }
moves() { if [ "$(value "$1" "$2" "$4")" != "$(value "$1" "$3" "$4")" ]; then ok; else no "$1: $4 does not move between step $2 and $3"; fi; }

# Step s is taken when (s - 1) / 10 of the steps are done: the gate learns in steps 3 .. 6
train hgf linear.adapter=hgf adapter.hgf.warmup=0.2 adapter.hgf.freeze=0.6
q=layers.0.mixer.q_proj
if [ ${#q} -gt 0 ] && [ "$(value hgf 1 $q.hgf.theta | wc -c)" -eq 8 ]; then ok; else no "theta is not 4 bytes"; fi
same hgf 1 2 $q.hgf.theta
moves hgf 2 3 $q.hgf.theta
moves hgf 5 6 $q.hgf.theta
same hgf 6 7 $q.hgf.theta
same hgf 6 10 $q.hgf.theta
moves hgf 9 10 $q.hgf.a
moves hgf 1 2 $q.hgf.b
moves hgf 9 10 $q.weight

train lora linear.adapter=lora adapter.lora.freeze_base=yes
same lora 1 10 $q.weight
same lora 1 10 layers.1.ffn.down_proj.weight
moves lora 1 10 $q.lora.a
moves lora 1 2 $q.lora.b
moves lora 1 10 embed.weight

# From step 4 on again
try() {
    name=$1
    shift
    train "$name" train.eval_every=5 "$@"
    cp -r "$tmp/$name" "$tmp/again"
    for s in 05 06 07 08 09 10; do rm -r "$tmp/again/ckpt/00000000$s"; done
    run 0 "$CHIMERA" train "$tmp/again" --resume
    for f in model optimizer; do
        if cmp -s "$tmp/$name/ckpt/0000000010/$f.safetensors" "$tmp/again/ckpt/0000000010/$f.safetensors"; then ok
        else no "$name: gone on from step 4, another $f"; fi
    done
    rm -r "$tmp/again"
}
try both 'linear.adapter=hgf, lora' train.micro_batch=1
try sherry linear.quantizer=sherry linear.arenas=1 train.lambda_warmup=0.8
# A model without the adapter is another model: one line says so
run 0 "$CHIMERA" eval "$tmp/both"
most_lines=40
bad 2 'adapter' "$CHIMERA" eval "$tmp/both" linear.adapter=
bad 2 'rank' "$CHIMERA" eval "$tmp/both" adapter.lora.rank=4
finish
