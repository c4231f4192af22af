#!/bin/sh
# Runs on tasks that make examples: no corpus and no tokenizer, accuracy with its slices, the same bits for
# any number of threads and cut of an evaluation; a run that goes on from a
# checkpoint equals one that was not; what cannot be meant is refused in one line before anything is written.
set -eu
. "$srcdir/tests/e2e/lib.sh"
cat >"$tmp/run.ini" <<INI
[model]
hidden_size = 16
num_hidden_layers = 1
vocab_size = 33
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
task = overwrite
[task]
keys = 3
writes = 1, 2, 3
symbols = 16
heldout = 40
[train]
batch_size = 3
micro_batch = 2
seq_len = 50
steps = 10
warmup_steps = 2
lr = 1e-2
checkpoint_every = 3
eval_every = 4
[run]
dir = out
seed = 5
INI
train() { dir=$1; shift; run 0 "$CHIMERA" train "$tmp/run.ini" run.dir="$tmp/$dir" "$@"; }
lines() { sed -e 's/,"wall_s":[^,}]*//; s/,"tok_s":[^,}]*//; s/,"rss_mb":[^,}]*//' "$1/metrics.jsonl"; }
same() {
    if cmp -s "$tmp/$1/ckpt/0000000010/model.safetensors" "$tmp/$2/ckpt/0000000010/model.safetensors"; then ok; else no "$1 and $2: other weights"; fi
    lines "$tmp/$1" >"$tmp/a"
    lines "$tmp/$2" >"$tmp/b"
    if cmp -s "$tmp/a" "$tmp/b"; then ok; else no "$1 and $2: other metrics"; fi
}

run 0 "$CHIMERA" train "$tmp/run.ini" --dry-run
says out 'no end of examples of task overwrite to train on; 40 held out'
says out '10 of 6 examples'             # 2 of up to 22 rows in 50
train whole run.threads=1
says err 'step 10: held-out accuracy .*writes_1 .*writes_2 .*writes_3'
if [ "$(grep -c '"accuracy":.*"heldout_loss":.*"accuracy.writes_1":.*"accuracy.writes_3":' "$tmp/whole/metrics.jsonl")" = 3 ]; then ok
else no "accuracy is not in metrics.jsonl at steps 4, 8 and 10"; fi
if grep -q bpb "$tmp/whole/metrics.jsonl"; then no "bits per byte where there are no bytes"; else ok; fi
train threads run.threads=3
same whole threads

# Tokens are rows of examples, not of sequences
tokens=$(sed -n 's/^{"step":10,"tokens":\([0-9]*\).*"loss".*/\1/p' "$tmp/whole/metrics.jsonl")
if [ "$tokens" -gt 500 ] && [ "$tokens" -lt 1320 ]; then ok; else no "60 examples of 10 to 22 rows are $tokens tokens"; fi

# Gone on from each of its checkpoints
train cut6 train.keep=0
cp -r "$tmp/cut6" "$tmp/cut3"
rm -rf "$tmp"/cut6/ckpt/0000000009 "$tmp"/cut6/ckpt/0000000010
rm -rf "$tmp"/cut3/ckpt/0000000006 "$tmp"/cut3/ckpt/0000000009 "$tmp"/cut3/ckpt/0000000010
for cut in cut3 cut6; do
    train $cut --resume run.threads=2
    says err 'goes on from'
    same whole $cut
done

# Another seed and other options are other data
bad 3 'other data' "$CHIMERA" train "$tmp/run.ini" run.dir="$tmp/cut3" --resume task.symbols=15
bad 3 'other data' "$CHIMERA" train "$tmp/run.ini" run.dir="$tmp/cut3" --resume run.seed=6

# Evaluation: the last line of metrics, for any chunk and threads
run 0 "$CHIMERA" eval "$tmp/whole" -o json
cp "$tmp/out" "$tmp/eval"
accuracy=$(sed -n 's/.*"step":10,.*"accuracy":\([^,]*\),.*/\1/p' "$tmp/whole/metrics.jsonl")
says out "\"accuracy\":$accuracy,"
says out '"examples":40,"scored":120,'
for how in '--chunk 1' '--chunk 5' 'run.threads=3'; do
    # shellcheck disable=SC2086
    run 0 "$CHIMERA" eval "$tmp/whole" -o json $how
    if cmp -s "$tmp/out" "$tmp/eval"; then ok; else no "eval $how gives another result"; fi
done
run 0 "$CHIMERA" eval "$tmp/whole"
says out 'writes_3 +0?\.[0-9]+ of [0-9]+'
run 0 "$CHIMERA" eval "$tmp/whole" task.heldout=7 task.heldout_writes=5
says out 'examples +7'
says out 'writes_5'
bad 3 'without end' "$CHIMERA" eval "$tmp/whole" --split train
bad 2 'is for text' "$CHIMERA" eval "$tmp/whole" --limit 100
run 0 "$CHIMERA" eval "$tmp/whole" --split train task.train=9 -o json
says out '"split":"train".*"examples":9'

# A set of examples without end, or one that is gone through again and again
train few task.train=12 train.steps=5
bad 2 'train.seq_len to 22 or more.*keys' "$CHIMERA" train "$tmp/run.ini" run.dir="$tmp/bad" train.seq_len=21
bad 2 'vocab_size = 32 is too small for task overwrite.*33' "$CHIMERA" train "$tmp/run.ini" run.dir="$tmp/bad" model.vocab_size=32
bad 2 'train.eval_bytes' "$CHIMERA" train "$tmp/run.ini" run.dir="$tmp/bad" train.eval_bytes=100
bad 2 'writes' "$CHIMERA" train "$tmp/run.ini" run.dir="$tmp/bad" task.writes=0
bad 2 'symbols is 2' "$CHIMERA" train "$tmp/run.ini" run.dir="$tmp/bad" task.symbols=2
if [ -e "$tmp/bad" ]; then no "a refused run left a folder"; else ok; fi

# The trace of a run, from which its steps are taken again
run 0 "$CHIMERA" train "$tmp/run.ini" run.dir="$tmp/traced" --trace "$tmp/trace" train.trace_steps=2
if [ -s "$tmp/trace/batches.safetensors" ]; then ok; else no "no batches in the trace"; fi
if [ -x "$PWD/tests/replay" ]; then run 0 "$PWD/tests/replay" "$tmp/trace"; else no "there is no tests/replay"; fi
finish
