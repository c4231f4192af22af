#!/bin/sh
# A looped model from end to end: drawn depths survive a resume bit for bit, a trace holds what
# another program needs to take the steps again, and the number of turns is set where it is used.
set -eu
. "$srcdir/tests/e2e/lib.sh"
awk 'BEGIN { for (k = 0; k < 200; k++) printf "line %d says %d\n", k, k * 7 % 17 }' >"$tmp/text"
awk 'BEGIN { for (k = 0; k < 20; k++) printf "line %d says %d\n", k, k * 5 % 17 }' >"$tmp/held"
cat >"$tmp/loop.ini" <<INI
[model]
hidden_size = 16
num_hidden_layers = 4
initializer_range = 0.1
layer_pattern = GD
ffn_pattern = MLP
[layer.GD]
use = gated_deltanet
num_heads = 2
head_dim = 8
[layer.MLP]
use = swiglu
intermediate_size = 32
[loop]
use = parcae
prelude = 0
loop = 1-2
coda = 3
depth_selection = poisson
backward_truncation = half
[data]
task = text
tokenizer = byte
[task]
train = text
heldout = held
[train]
batch_size = 4
micro_batch = 3
seq_len = 24
steps = 9
lr = 1e-2
checkpoint_every = 3
keep = 0
[mode.fast]
loop.loops = 1
generate.max_new_tokens = 3
[mode.deep]
loop.loops = 4
[run]
dir = run
threads = 1
INI
train() { run 0 "$CHIMERA" train "$tmp/loop.ini" "$@"; }
same() { if cmp -s "$1" "$2"; then ok; else no "$3"; fi; }
last=ckpt/0000000009

# ---- resume, threads, micro-batches
train run.dir="$tmp/whole" --trace "$tmp/trace" train.trace_steps=6
cp -r "$tmp/whole" "$tmp/cut"
rm -r "$tmp/cut/ckpt/0000000009" "$tmp/cut/ckpt/0000000006"
train run.dir="$tmp/cut" --resume run.threads=3
for f in model optimizer; do same "$tmp/whole/$last/$f.safetensors" "$tmp/cut/$last/$f.safetensors" "resumed: other bits in $f"; done
train run.dir="$tmp/block" train.recompute=block
same "$tmp/whole/$last/model.safetensors" "$tmp/block/$last/model.safetensors" "recomputation: other bits"
train run.dir="$tmp/fixed" loop.depth_selection=fixed
if cmp -s "$tmp/whole/$last/model.safetensors" "$tmp/fixed/$last/model.safetensors"; then no "drawn depths change nothing"; else ok; fi

# ---- the trace
for f in config.ini initial.safetensors final.safetensors batches.safetensors trace.jsonl; do
    if [ -s "$tmp/trace/$f" ]; then ok; else no "the trace has no $f"; fi
done
# trace.jsonl says what metrics.jsonl says
if [ "$(wc -l <"$tmp/trace/trace.jsonl")" -eq 6 ]; then ok; else no "trace.jsonl has not 6 lines"; fi
number() { sed -n "s/.*\"$2\":\\([^,}]*\\).*/\\1/p" "$1" | awk '{ printf "%.6g\n", $1 }' | head -n 6; }
for key in step loss lr grad_norm clip; do
    if [ "$(number "$tmp/trace/trace.jsonl" $key)" = "$(number "$tmp/whole/metrics.jsonl" $key)" ]; then ok; else no "trace: other $key"; fi
done
# final are the weights after 6 steps: those of its checkpoint, tensor for tensor
if [ -x "$PWD/tests/replay" ]; then
    run 0 "$PWD/tests/replay" "$tmp/trace"
    says out 'depths [0-9 ]*[3-6]'
    run 0 "$PWD/tests/replay" "$tmp/trace" "$tmp/whole/ckpt/0000000006/model.safetensors"
    run 1 "$PWD/tests/replay" "$tmp/trace" "$tmp/whole/ckpt/0000000003/model.safetensors"
else
    no "there is no tests/replay"
fi
# the configuration is a valid input
run 0 "$CHIMERA" inspect "$tmp/trace/config.ini"
bad 2 'it is there already' "$CHIMERA" train "$tmp/loop.ini" run.dir="$tmp/other" --trace "$tmp/trace"
bad 2 'from its first step' "$CHIMERA" train "$tmp/loop.ini" run.dir="$tmp/cut" --resume --trace "$tmp/trace2"
bad 2 'rollback' "$CHIMERA" train "$tmp/loop.ini" run.dir="$tmp/other" --trace "$tmp/trace2" train.nonfinite=rollback
bad 1 'cannot create folder /proc/no' "$CHIMERA" train "$tmp/loop.ini" run.dir="$tmp/other" --trace /proc/no/trace
bad 1 'loop.ini: a file of that name' "$CHIMERA" train "$tmp/loop.ini" run.dir="$tmp/loop.ini/no" --trace "$tmp/trace2"
if [ -e "$tmp/trace2" ] || [ -e "$tmp/other" ]; then no "a refused trace leaves something behind"; else ok; fi

# ---- turns in use
bpb() { run 0 "$CHIMERA" eval "$tmp/whole" "$@"; sed -n 's/^bits per byte *//p' "$tmp/out"; }
two=$(bpb)
if [ -n "$two" ]; then ok; else no "eval says no bits per byte: $(cat "$tmp/out")"; fi
if [ "$(bpb loop.loops=2)" = "$two" ]; then ok; else no "loops = 2 is not the default of 2"; fi
if [ "$(bpb loop.adaptive_exit=1e-12)" = "$two" ]; then ok; else no "a threshold that nothing reaches changes the result"; fi
if [ "$(bpb loop.loops=1)" = "$two" ]; then no "loops = 1 changes nothing"; else ok; fi
if [ "$(bpb loop.loops=4)" = "$two" ]; then no "loops = 4 changes nothing"; else ok; fi
run 0 "$CHIMERA" generate "$tmp/whole" --prompt 'line 7' generate.max_new_tokens=30 loop.loops=4 --save-session "$tmp/s4"
run 0 "$CHIMERA" generate "$tmp/whole" --prompt ' and' generate.max_new_tokens=5 loop.loops=4 --load-session "$tmp/s4"
bad 3 'session' "$CHIMERA" generate "$tmp/whole" --prompt ' and' generate.max_new_tokens=5 --load-session "$tmp/s4"
# ---- modes: their lines, under what the command line says, of a run and of what is packed from it
run 0 "$CHIMERA" convert "$tmp/whole" -o "$tmp/whole.b158"
for m in "$tmp/whole" "$tmp/whole.b158"; do
    one=$(run 0 "$CHIMERA" eval "$m" loop.loops=1; cat "$tmp/out")
    for how in "--mode fast" run.mode=fast "--mode deep loop.loops=1" "loop.loops=1 run.mode=deep"; do
        # shellcheck disable=SC2086
        run 0 "$CHIMERA" eval "$m" $how
        if [ "$(cat "$tmp/out")" = "$one" ]; then ok; else no "$m with $how is not one turn"; fi
    done
    run 0 "$CHIMERA" generate "$m" --mode fast -p 'line 7' --ignore-end
    says err 'wrote 3 tokens'
    run 0 "$CHIMERA" generate "$m" --mode fast -p 'line 7' --ignore-end -n 5
    says err 'wrote 5 tokens'
done
run 0 "$CHIMERA" config "$tmp/whole" run.mode=deep loop.loops
says out '^loops += 4 .*config.ini:[0-9]+'
run 0 "$CHIMERA" inspect "$tmp/whole" --mode deep
bad 2 'run.mode = fats: there is no section \[mode.fats\]; there are: fast, deep; did you mean fast\?' "$CHIMERA" eval "$tmp/whole" --mode fats
bad 2 'run.mode = fast: a mode is for a model in use' "$CHIMERA" train "$tmp/loop.ini" run.dir="$tmp/other" run.mode=fast
bad 2 'run.mode = fast: a mode is for a model in use' "$CHIMERA" convert "$tmp/whole" -o "$tmp/x.b158" run.mode=fast
bad 2 'run.mode = fast: a mode is for a model in use' "$CHIMERA" init "$tmp/loop.ini" -o "$tmp/x" run.mode=fast
wrong_mode() {      # PATTERN LINE [MODE]: in the mode that is in use, and in another one
    { cat "$tmp/loop.ini"; printf '[mode.wrong]\n%s\n' "$2"; } >"$tmp/wrong.ini"
    bad 2 "wrong.ini:[0-9]+: $1" "$CHIMERA" inspect "$tmp/wrong.ini"
    most_lines=1 bad 2 "wrong.ini:[0-9]+: ${3:-$1}" "$CHIMERA" inspect "$tmp/wrong.ini" --mode wrong
}
wrong_mode 'mode.wrong.loop.zoh = euler: loop.zoh is part of the model' 'loop.zoh = euler'
wrong_mode 'mode.wrong.train.lr = 2: train.lr is part of the model or of its training' 'train.lr = 2'
wrong_mode 'mode.wrong.run.mode = fast: a mode cannot choose a mode' 'run.mode = fast'
wrong_mode 'mode.wrong.loops = 1: wanted is section.key = value' 'loops = 1'
wrong_mode 'mode.wrong.loop.lops = 1: \[loop\] takes no such key' 'loop.lops = 1' 'loop.lops = 1: unknown key: did you mean loops'
wrong_mode 'mode.wrong.lop.loops = 1: nothing reads \[lop\]' 'lop.loops = 1' '\[lop\]: unknown section: did you mean \[loop\]'
# a checkpoint of another loop is refused
bad 2 'loop_default' "$CHIMERA" eval "$tmp/whole" loop.loop_default=3
bad 2 'zoh' "$CHIMERA" eval "$tmp/whole" loop.zoh=euler
finish
