#!/bin/sh
# A run that is killed anywhere and goes on by the same command equals the one that was never
# killed: every weight, every moment, every line of metrics but its clock.  The shim kills at the
# N-th file operation, so the kills lie in every step and inside the writing of checkpoints.
#
#     STRIDE=n    every n-th file operation only (default 11); make soak-resume takes them all
set -eu
. "$srcdir/tests/e2e/lib.sh"
shim=$PWD/tests/shim/.libs/faultfs.so
mock=$PWD/tests/mock/.libs/poison.so
if [ ! -f "$shim" ] || [ ! -f "$mock" ]; then
    echo "skip: no shim or no mock plugin (static build or sanitizers)"
    exit 77
fi
stride=${STRIDE:-11}
mkdir -p "$tmp/plugins/train" "$tmp/text" "$tmp/few"
cp "$mock" "$tmp/plugins/train/poison.so"
chmod 755 "$tmp/plugins" "$tmp/plugins/train"
chmod 644 "$tmp/plugins/train/poison.so"
# 30 documents, two of them with the '~' that makes the loss NaN; and a corpus of few batches
i=0
while [ $i -lt 30 ]; do
    awk -v n=$i 'BEGIN { for (k = 0; k < 2 + n % 5; k++) printf "line %d of %d says %d\n", k, n, k * (n + 3) % 17 }' >"$tmp/text/$i"
    i=$((i + 1))
done
printf 'a tilde ~ here\n' >"$tmp/text/7"
printf 'another ~ tilde\n' >"$tmp/text/19"
awk 'BEGIN { for (k = 0; k < 9; k++) printf "few words %d\n", k * k }' >"$tmp/few/0"
printf 'held out words, 12 of them\n' >"$tmp/held"
cat >"$tmp/f32.ini" <<INI
[model]
hidden_size = 16
num_hidden_layers = 2
vocab_size = 257
layer_pattern = GD
ffn_pattern = MLP
[layer.GD]
use = gated_deltanet
num_heads = 2
head_dim = 8
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
batch_size = 3
micro_batch = 2
seq_len = 16
steps = 10
warmup_steps = 2
lr = 1e-2
checkpoint_every = 3
eval_every = 4
keep = 2
log_every = 1
[run]
dir = out
seed = 5
threads = 1
[plugins]
path = $tmp/plugins
INI
# The variants
variant() {
    name=$1
    shift
    printf '%s\n' "include = f32.ini" "$@" >"$tmp/$name.ini"
}
variant ternary '[linear]' 'quantizer = ternary' 'extra_rmsnorm = yes' '[linear.embed]' 'quantizer = f32' \
    '[train]' 'schedule = wsd' 'decay_fraction = 0.5' 'lambda_warmup = 0.7' 'recompute = block' 'micro_batch = 1'
variant epochs '[task]' 'train = few' '[train]' 'steps = 13' 'batch_size = 2' 'micro_batch = 0' 'log_every = 2' 'keep = 1'
variant skip '[train]' 'objective = poison' 'nonfinite = skip' 'steps = 16' 'schedule = constant'
variant rollback '[train]' 'objective = poison' 'nonfinite = rollback' 'steps = 16' 'checkpoint_every = 4'

train() { "$CHIMERA" train "$tmp/$name.ini" run.dir="$tmp/$1" --resume run.threads="$2" >"$tmp/out" 2>"$tmp/err" </dev/null; }
lines() { sed -e 's/,"wall_s":[^,}]*//; s/,"tok_s":[^,}]*//; s/,"rss_mb":[^,}]*//' "$1/metrics.jsonl"; }
newest() { find "$1/ckpt" -mindepth 1 -maxdepth 1 | sort | tail -n 1; }
# equal WHAT: of the run $tmp/cut and the whole one
equal() {
    a=$(newest "$tmp/$name.whole") b=$(newest "$tmp/cut")
    for f in model.safetensors optimizer.safetensors; do
        if cmp -s "$a/$f" "$b/$f"; then ok; else no "$name, $1: other bits in $f of ${b##*/}, ${a##*/}"; fi
    done
    lines "$tmp/cut" >"$tmp/lines"
    if cmp -s "$tmp/$name.lines" "$tmp/lines"; then ok; else
        no "$name, $1: other metrics"
        diff "$tmp/$name.lines" "$tmp/lines" | head -n 4
    fi
    if cmp -s "$tmp/$name.whole/rollback.txt" "$tmp/cut/rollback.txt" || [ ! -e "$tmp/$name.whole/rollback.txt" ]; then ok
    else no "$name, $1: other rollbacks"; fi
    if find "$tmp/cut" -name '*.tmp' | grep -q .; then no "$name, $1: a .tmp stays"; else ok; fi
}
# The time of a run is that of all its processes
clock() {
    sed -n 's/.*"wall_s":\([0-9.]*\).*/\1/p' "$tmp/cut/metrics.jsonl" | sort -nc 2>/dev/null || no "$name: wall_s goes back"
}

kills=0
for name in f32 ternary epochs skip rollback; do
    FAULT_COUNT=$tmp/calls LD_PRELOAD=$shim train "$name.whole" 1 || { cat "$tmp/err"; no "$name: the whole run"; continue; }
    calls=$(cat "$tmp/calls")
    lines "$tmp/$name.whole" >"$tmp/$name.lines"
    [ "$(grep -c '"loss"' "$tmp/$name.lines")" -ge 6 ] || no "$name: few lines of metrics"
    i=$((1 + kills % stride))
    while [ $i -le "$calls" ]; do
        rm -rf "$tmp/cut"
        how=kill rc=0
        [ $((i % 3)) -ne 0 ] || how=short
        FAULT=call:$i:$how LD_PRELOAD=$shim train cut $((1 + i % 2)) || rc=$?
        [ $rc -eq 137 ] || no "$name: call $i of $calls: exit code $rc, not killed"
        # a second kill in what is left of it, now and then
        if [ $((i % 4)) -eq 0 ]; then FAULT=call:$((i / 2 + 9)):kill LD_PRELOAD=$shim train cut 1 || :; fi
        if train cut $((1 + i % 3)); then equal "killed at file operation $i of $calls"; clock
        else no "$name: call $i: does not go on: $(cat "$tmp/err")"; fi
        kills=$((kills + 1))
        i=$((i + stride))
    done
done
if grep -q '"skipped":true' "$tmp/skip.lines"; then ok; else no "the poison made no step skip"; fi
if [ -s "$tmp/rollback.whole/rollback.txt" ]; then ok; else no "the poison made no rollback"; fi

# Lines of samples that came after the checkpoint go, like those of metrics
name=f32
rm -rf "$tmp/cut"
cp -r "$tmp/f32.whole" "$tmp/cut"
printf '{"step":99}\n' >>"$tmp/cut/samples.jsonl"
printf '{"step":99}\n' >>"$tmp/cut/metrics.jsonl"
train cut 1 || no "a finished run with lines behind its checkpoint: $(cat "$tmp/err")"
if [ -s "$tmp/cut/samples.jsonl" ]; then no "samples.jsonl is not cut back"; else ok; fi
equal "lines behind the checkpoint"
echo "$kills kills"
finish
