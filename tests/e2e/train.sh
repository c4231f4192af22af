#!/bin/sh
# A run learns; a killed one resumes to the same bits; threads change none; SIGTERM saves.
set -eu
work=$(mktemp -d)
pid=
trap 'test -z "$pid" || kill -9 "$pid" 2>/dev/null || :; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
die() { echo "train.sh: $*" >&2; exit 1; }

# Text with something to learn: words in a fixed grammar, 40 documents and 4 held out.
mkdir "$work/text" "$work/held"
awk -v out="$work" 'BEGIN { srand(7); split("red blue old new small", a); split("cat dog bird fish", n);
    split("sees hears follows likes", v);
    for (d = 0; d < 44; d++) { f = out (d < 40 ? "/text/" : "/held/") sprintf("%03d", d);
        for (i = 0; i < 3 + d % 9; i++) printf "the %s %s %s the %s %s.\n", a[int(rand()*5)+1], n[int(rand()*4)+1],
            v[int(rand()*4)+1], a[int(rand()*5)+1], n[int(rand()*4)+1] > f; close(f) } }'

cat > "$work/tiny.ini" <<'INI'
[model]
hidden_size = 32
num_hidden_layers = 2
vocab_size = 257
layer_pattern = GD
ffn_pattern = MLP
[layer.GD]
use = gated_deltanet
num_heads = 2
head_dim = 16
[layer.MLP]
use = swiglu
intermediate_size = 64
[data]
task = text
tokenizer = byte
[task]
train = text
heldout = held
[train]
optimizer = adamw
objective = next_token
batch_size = 5
micro_batch = 2
seq_len = 32
steps = 20
warmup_steps = 2
lr = 1e-2
checkpoint_every = 3
eval_every = 8
keep = 3
log_every = 1
[run]
dir = out
seed = 3
threads = 1
INI
train() { "$CHIMERA" train "$work/tiny.ini" "$@" 2>> "$work/log"; }
lines() { sed -e 's/,"wall_s":[^,}]*//; s/,"tok_s":[^,}]*//; s/,"rss_mb":[^,}]*//' "$work/$1/metrics.jsonl"; }
weights() { sha256sum < "$work/$1/ckpt/00000000$2/model.safetensors"; }
moments() { sha256sum < "$work/$1/ckpt/00000000$2/optimizer.safetensors"; }
same() {
    test "$(weights "$1" 20)" = "$(weights whole 20)" || die "$1: other weights than the whole run"
    test "$(moments "$1" 20)" = "$(moments whole 20)" || die "$1: other moments than the whole run"
    lines whole > "$work/a"; lines "$1" > "$work/b"
    cmp -s "$work/a" "$work/b" || { diff "$work/a" "$work/b" | head -6; die "$1: other metrics than the whole run"; }
}

train run.dir="$work/whole" run.threads=2 || { cat "$work/log"; die "the run failed"; }
first=$(sed -n '1s/.*"loss":\([0-9.]*\).*/\1/p' "$work/whole/metrics.jsonl")
last=$(grep '"step":20,' "$work/whole/metrics.jsonl" | sed -n '1s/.*"loss":\([0-9.]*\).*/\1/p')
awk "BEGIN { exit !($last < $first - 1) }" || die "the loss did not fall: $first to $last"
test "$(grep -c heldout_bpb "$work/whole/metrics.jsonl")" = 3 || die "want held-out lines at 8, 16 and 20"
test "$(grep -c '"loss"' "$work/whole/metrics.jsonl")" = 20 || die "want a line for each of 20 steps"
test "$(ls "$work/whole/ckpt" | wc -l)" = 3 || die "want the 3 newest checkpoints"
echo "loss $first -> $last"

for n in 1 3; do
    train run.dir="$work/threads$n" run.threads=$n
    same "threads$n"
done

# The same command again and again, killed when the metrics have so many lines.
for at in 1 4 9 14 20; do
    "$CHIMERA" train "$work/tiny.ini" run.dir="$work/kill" --resume 2>> "$work/log" & pid=$!
    while kill -0 $pid 2>/dev/null; do
        test "$(cat "$work/kill/metrics.jsonl" 2>/dev/null | wc -l)" -lt $at || kill -9 $pid 2>/dev/null || :
    done
    wait $pid 2>/dev/null || :
    pid=
done
train run.dir="$work/kill" --resume || { tail -3 "$work/log"; die "the killed run did not resume"; }
same kill
train run.dir="$work/kill" --resume                     # a finished run stays as it is
same kill

# SIGTERM saves and says 143; a folder with checkpoints is refused, then resumed.
"$CHIMERA" train "$work/tiny.ini" run.dir="$work/term" 2>> "$work/log" & pid=$!
while kill -0 $pid 2>/dev/null; do
    test "$(cat "$work/term/metrics.jsonl" 2>/dev/null | wc -l)" -lt 5 || { kill -TERM $pid 2>/dev/null || :; break; }
done
code=0; wait $pid || code=$?
pid=
test $code = 143 || die "SIGTERM ended with $code, not 143"
ls "$work/term/ckpt" | grep -q . || die "SIGTERM saved nothing"
code=0; train run.dir="$work/term" || code=$?
test $code = 1 || die "a folder with checkpoints was not refused (exit $code)"
tail -1 "$work/log" | grep -q -- "--resume" || die "the refusal does not say what to do"
train run.dir="$work/term" --resume
same term

# --fresh moves a run aside; nothing is deleted.
train run.dir="$work/term" train.steps=1 --fresh
test -d "$work/term.old-1/ckpt/0000000020" || die "--fresh lost the old run"

# Bad corpora: one line each, exit code 3 or 2.
: > "$work/empty"; printf 'a\000b' > "$work/nul"; printf x > "$work/one"
refused() {
    want=$1; shift
    code=0; "$CHIMERA" train "$work/tiny.ini" run.dir="$work/none" "$@" 2> "$work/err" || code=$?
    test $code = "$want" || die "$*: exit code $code, not $want: $(cat "$work/err")"
    test "$(wc -l < "$work/err")" = 1 || die "$*: want one line: $(cat "$work/err")"
    test ! -e "$work/none" || die "$*: left a run folder"
}
refused 3 task.train="$work/empty"
refused 3 task.train="$work/nul"
refused 3 task.train="$work/one"
refused 3 task.train="$work/missing"
refused 3 task.heldout="$work/text/001"
refused 2 model.vocab_size=200

"$CHIMERA" train "$work/tiny.ini" --dry-run > "$work/plan"
grep -q parameters "$work/plan" || die "--dry-run shows no plan"
test ! -e "$work/out" || die "--dry-run made a run folder"

a=$("$CHIMERA" eval "$work/whole" --output json 2>> "$work/log")
b=$("$CHIMERA" eval "$work/whole" --output json --chunk 7 2>> "$work/log")
test "$a" = "$b" || die "chunks change bits per byte: $a, $b"
bpb=$(grep heldout_bpb "$work/whole/metrics.jsonl" | tail -1 | sed 's/.*"heldout_bpb":\([0-9.]*\).*/\1/')
case $a in *"\"bits_per_byte\":$bpb,"*) ;; *) die "eval says $a, the run said $bpb";; esac
echo "ok"
