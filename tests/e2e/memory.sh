#!/bin/sh
# titans_mac, a layer whose streams start from parameters: it trains to the same bits with
# any threads, evaluates and generates, the same at once as in pieces and after a resume;
# what its open() refuses is one line and exit code 2.  And a layer from a folder that only
# [plugins] path names.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
die() { echo "memory.sh: $*" >&2; exit 1; }
unset CHIMERA_PLUGIN_PATH || :
plugins=$(dirname "$CHIMERA")/tests/mock/layers/.libs

mkdir "$work/text" "$work/held"
for i in 1 2 3; do seq $i $((i * 50)) > "$work/text/$i"; done
seq 7 60 > "$work/held/1"
cat > "$work/m.ini" <<INI
[plugins]
path = $plugins
[model]
hidden_size = 16
num_hidden_layers = 1
vocab_size = 257
layer_pattern = TM
ffn_pattern = MLP
[layer.TM]
use = titans_mac
num_heads = 2
head_dim = 8
chunk = 5
persistent_memory_slots = 3
[layer.FZ]
use = frozen
[layer.MLP]
use = swiglu
intermediate_size = 32
[data]
task = text
tokenizer = byte
[task]
train = text
heldout = held
[train]
optimizer = adamw
objective = next_token
batch_size = 2
seq_len = 24
steps = 4
warmup_steps = 1
checkpoint_every = 2
lr = 1e-2
[run]
dir = whole
INI
run() { "$CHIMERA" "$@" 2> "$work/err" || { code=$?; cat "$work/err" >&2; die "chimera $*: exit code $code"; }; }
weights() { sha256sum < "$work/$1/ckpt/0000000004/model.safetensors"; }

# Trained on 1, 2, 3 and 8 threads, in one go and resumed after two steps; read at once
check() {
    name=$1; shift
    run train "$work/m.ini" run.dir="$work/$name" run.threads=1 "$@" > /dev/null
    for n in 2 3 8; do
        run train "$work/m.ini" run.dir="$work/$name$n" run.threads=$n "$@" > /dev/null
        [ "$(weights $name)" = "$(weights $name$n)" ] || die "$name: $n threads learned something else"
    done
    cp -r "$work/$name" "$work/$name-cut"
    rm -r "$work/$name-cut/ckpt/0000000004"
    run train "$work/m.ini" run.dir="$work/$name-cut" --resume "$@" > /dev/null
    [ "$(weights $name)" = "$(weights $name-cut)" ] || die "$name: the resumed run learned something else"
    grep -q '"memory_norm":' "$work/$name/metrics.jsonl" || die "$name: no word of the memory's norm"
    run eval "$work/$name" > "$work/out"
    grep -q 'bits per byte' "$work/out" || die "$name: eval printed no bits per byte"
    for n in 1 2 3; do run generate "$work/$name" -p 12 -n 24 run.threads=$n > "$work/text$n"; done
    [ -s "$work/text1" ] || die "$name: nothing generated"
    cmp -s "$work/text1" "$work/text2" && cmp -s "$work/text1" "$work/text3" || die "$name: threads change the text"
}
check two
check window layer.TM.core=window layer.TM.local_window_size=7 layer.TM.semi_exact=yes
check three layer.TM.memory_depth=3 linear.quantizer=ternary

code=0
"$CHIMERA" train "$work/m.ini" run.dir="$work/no" layer.TM.theta_max=9 layer.TM.chunk=200 > "$work/out" 2> "$work/err" || code=$?
[ $code = 2 ] || die "a refusal of open() gave exit code $code"
grep -q 'layers\.0\.mixer: theta_max = 9 with chunk = 200' "$work/err" || die "open() refused without its words"
code=0
"$CHIMERA" train "$work/m.ini" run.dir="$work/no" model.layer_pattern=FZ > "$work/out" 2> "$work/err" || code=$?
[ $code = 2 ] || die "training a layer without backward gave exit code $code"
grep -q 'frozen has no backward pass' "$work/err" || die "no word of the missing backward pass"
echo "memory.sh: ok"
