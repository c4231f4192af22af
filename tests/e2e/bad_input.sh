#!/bin/sh
# Bad input of every kind ends in one clear line and the documented exit code, and what was there
# before is there afterwards.  Exit codes: 2 configuration, 3 data, 4 plugin, 5 memory or disk.
set -eu
. "$srcdir/tests/e2e/lib.sh"
make_corpus
conf=$srcdir/conf/tiny.ini
data="task.train=$corpus/train task.heldout=$corpus/heldout"
# try CODE PATTERN WORD...: trains the tiny model with these words in a new run folder
try() {
    code=$1 pattern=$2
    shift 2
    rm -rf "$tmp/run-bad"
    # shellcheck disable=SC2086
    bad "$code" "$pattern" "$CHIMERA" train "$conf" $data run.dir="$tmp/run-bad" "$@"
}

# ---- configuration ---------------------------------------------------------
try 2 'layer\.GD\.num_head.*num_heads' layer.GD.num_head=2
try 2 'no such section|unknown section|modle.*model' modle.hidden_size=32
try 2 'train\.schedule.*cosine_warmup' train.schedule=cosin
try 2 'train\.nonfinite.*(stop|skip)' train.nonfinite=ignore
try 2 'layer\.GD\.num_heads = 0.*1' layer.GD.num_heads=0
try 2 'model\.hidden_size = -3' model.hidden_size=-3
try 2 'model\.hidden_size.*(number|int)' model.hidden_size=wide
try 2 'train\.lr' train.lr=1e-3x
try 2 'train\.lr' train.lr=nan
try 2 'extra_rmsnorm.*(yes|no)' linear.extra_rmsnorm=maybe
try 2 'vocab' model.vocab_size=200
try 2 'XX|layer_pattern' model.layer_pattern=XX
bad 2 'no-such\.ini' "$CHIMERA" train "$tmp/no-such.ini"
bad 2 'directory|folder|config\.ini' "$CHIMERA" config "$corpus"

ini() { printf '%s\n' "include = $conf" "$@" >"$tmp/x.ini"; }
ini '[model]' 'hidden_size = 32' 'hidden_size = 64'
bad 2 'x\.ini:4.*hidden_size' "$CHIMERA" config "$tmp/x.ini"
ini 'include = nowhere.ini'
bad 2 'nowhere\.ini' "$CHIMERA" config "$tmp/x.ini"
ini 'include = x.ini'
bad 2 'x\.ini:2.*(circle|itself)' "$CHIMERA" config "$tmp/x.ini"
ini '[model' 'hidden_size = 32'
bad 2 'x\.ini:2' "$CHIMERA" config "$tmp/x.ini"
ini '[model]' 'hidden_size'
bad 2 'x\.ini:3' "$CHIMERA" config "$tmp/x.ini"
ini '[model]'
printf 'hidden_size = 3\0002\n' >>"$tmp/x.ini"
bad 2 'x\.ini:3.*NUL' "$CHIMERA" config "$tmp/x.ini"
head -c 40000 "$CHIMERA" >"$tmp/binary.ini"
most_lines=3 bad 2 'binary\.ini:1: .*plain UTF-8' "$CHIMERA" config "$tmp/binary.ini"
ini '[model]'
awk 'BEGIN { printf "layer_pattern ="; for (i = 0; i < 100000; i++) printf " GD"; print "" }' >>"$tmp/x.ini"
bad 2 'x\.ini:3.*bytes' "$CHIMERA" config "$tmp/x.ini"
# All errors of a file at once, each with its line
ini '[model]' 'hiden_size = 32' '[train]' 'lr = fast' 'steps = 0'
most_lines=5 bad 2 'x\.ini:3.*hidden_size' "$CHIMERA" config "$tmp/x.ini"
says err 'x\.ini:5.*lr'
says err 'x\.ini:6.*steps'

# ---- plugins ---------------------------------------------------------------
try 4 'gated_deltnet.*gated_deltanet' layer.GD.use=gated_deltnet
mkdir -p "$tmp/plugins/layers"
chmod 755 "$tmp/plugins" "$tmp/plugins/layers"
try 4 'nothere' layer.GD.use=nothere plugins.path="$tmp/plugins"
printf 'not an ELF file' >"$tmp/plugins/layers/broken.so"
chmod 644 "$tmp/plugins/layers/broken.so"
try 4 'broken' layer.GD.use=broken plugins.path="$tmp/plugins"
bad 4 'broken\.so' "$CHIMERA" inspect "$tmp/plugins/layers/broken.so"
: >"$tmp/plugins/layers/broken.so"
bad 4 'broken\.so' "$CHIMERA" inspect "$tmp/plugins/layers/broken.so"
so=$(find "${CHIMERA_BUILD_PLUGINS:-/nonexistent}" -name 'swiglu.so' 2>/dev/null | head -n 1)
if [ -n "$so" ]; then
    # A file cut in the middle, as an interrupted copy leaves it
    head -c 3000 "$so" >"$tmp/plugins/layers/swiglu.so"
    chmod 644 "$tmp/plugins/layers/swiglu.so"
    bad 4 'swiglu\.so' "$CHIMERA" inspect "$tmp/plugins/layers/swiglu.so"
    cp "$so" "$tmp/plugins/layers/swiglu.so"
    chmod 666 "$tmp/plugins/layers/swiglu.so"
    bad 4 'swiglu\.so.*(writ|permission|chmod)' "$CHIMERA" inspect "$tmp/plugins/layers/swiglu.so"
fi

# ---- corpora ---------------------------------------------------------------
mkdir -p "$tmp/none"
: >"$tmp/empty.txt"
printf 'x' >"$tmp/one.txt"
head -c 5000 /dev/zero >"$tmp/zero.bin"
try 3 'empty|no text' task.train="$tmp/empty.txt"
try 3 'empty|no (text|file)' task.train="$tmp/none"
try 3 'one byte|too small' task.train="$tmp/one.txt"
try 3 'binary|NUL' task.train="$tmp/zero.bin"
try 3 'empty|no text' task.heldout="$tmp/empty.txt"
bad 3 'no-corpus' "$CHIMERA" train "$conf" $data run.dir="$tmp/run-bad2" task.train="$tmp/no-corpus"

# ---- memory: said before it is taken ---------------------------------------
try 5 'memory_limit_mb|MB|MiB' run.memory_limit_mb=1
try 5 'memory|MB|MiB|GB|GiB' model.hidden_size=65536 model.num_hidden_layers=1024

# ---- names of outputs: empty ones, devices, what is something else
run 0 "$CHIMERA" train "$conf" $data run.dir="$tmp/made" train.steps=1
run 0 "$CHIMERA" convert "$tmp/made" -o "$tmp/made.b158"
bad 2 "must be a file's name" "$CHIMERA" convert "$tmp/made" -o ''
bad 2 "must be a file's or a folder's name" "$CHIMERA" import "$tmp/made.b158" -o ''
bad 2 'name of a file to write is empty' "$CHIMERA" report "$tmp/made" --html ''
bad 2 'name of a folder to make is empty' "$CHIMERA" train "$conf" $data run.dir=
cp -r "$tmp/made" "$tmp/nothing"
: >"$tmp/nothing/config.ini"
bad 3 'its config.ini says nothing' "$CHIMERA" report "$tmp/nothing"
mkfifo "$tmp/pipe"
cat "$tmp/pipe" >"$tmp/through" &
run 0 "$CHIMERA" report "$tmp/made" --csv "$tmp/pipe"
wait $!
[ -p "$tmp/pipe" ] && [ -s "$tmp/through" ] && ok || no "a pipe as output: $(ls -l "$tmp/pipe")"
cp "$tmp/made.b158" "$tmp/copy.b158"
bad 2 'copy.b158: is there already and is no session' "$CHIMERA" generate "$tmp/copy.b158" -n 1 --save-session "$tmp/copy.b158"
cmp -s "$tmp/made.b158" "$tmp/copy.b158" && ok || no "a model was replaced by a session"
bad 2 'samples: this task has no choices' "$CHIMERA" eval "$tmp/made" $data --samples "$tmp/samples"
[ -s "$tmp/out" ] && no "eval measures before it looks at --samples" || ok

# ---- standard files that are closed: no file of ours gets what is printed
# shellcheck disable=SC2086
"$CHIMERA" train "$conf" $data run.dir="$tmp/closed" train.steps=1 <&- >&- 2>&- || no "training without standard files: $?"
[ -s "$tmp/closed/samples.jsonl" ] && no "samples.jsonl got messages: $(cat "$tmp/closed/samples.jsonl")" || ok
[ "$(grep -c step "$tmp/closed/log.txt")" -ge 1 ] && ok || no "log.txt got none"
got=0
"$CHIMERA" convert "$tmp/made" -o "$tmp/closed.b158" >&- 2>/dev/null || got=$?
[ $got -eq 1 ] && cmp -s "$tmp/closed.b158" "$tmp/made.b158" && ok || no "convert with a closed stdout: exit code $got"
bad 2 'steps 0: ' "$CHIMERA" bench "$tmp/made" --steps 0

# ---- run folders and checkpoints -------------------------------------------
run 0 "$CHIMERA" train "$conf" $data run.dir="$tmp/run" train.steps=6
steps=$(wc -l <"$tmp/run/metrics.jsonl")
bad 1 'resume' "$CHIMERA" train "$conf" $data run.dir="$tmp/run" train.steps=6
if [ "$(wc -l <"$tmp/run/metrics.jsonl")" = "$steps" ]; then ok; else no "a refused run changed metrics.jsonl"; fi
bad 2 'no-run' "$CHIMERA" eval "$tmp/no-run"
most_lines=4 bad 2 'of another model: model\.hidden_size: checkpoint 32' "$CHIMERA" train "$conf" $data run.dir="$tmp/run" train.steps=8 model.hidden_size=64 --resume
bad 2 'num_heads|head_dim' "$CHIMERA" eval "$tmp/run" layer.GD.num_heads=4

# Used by another process
"$CHIMERA" train "$conf" $data run.dir="$tmp/busy" train.steps=100000 >/dev/null 2>&1 </dev/null &
other=$!
undo="kill $other"
i=0
while [ ! -s "$tmp/busy/metrics.jsonl" ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i + 1)); done
bad 1 "in use|$other" "$CHIMERA" train "$conf" $data run.dir="$tmp/busy" --resume
if kill -0 $other; then ok; else no "the first process did not survive the second"; fi
kill $other
wait $other || :
undo=

# Damaged checkpoints: a flipped byte, a cut file, a missing one
weights=$(find "$tmp/run/ckpt" -name model.safetensors | sort | tail -n 1)
cp "$weights" "$tmp/weights"
damaged() {
    rm -rf "$tmp/hurt"
    cp -r "$tmp/run" "$tmp/hurt"
    find "$tmp/hurt/ckpt" -name model.safetensors
}
for f in $(damaged); do printf 'XXXX' | dd of="$f" bs=1 seek=5000 conv=notrunc status=none; done
most_lines=4 bad 3 'model\.safetensors|checkpoint' "$CHIMERA" eval "$tmp/hurt"
for f in $(damaged); do head -c 4000 "$tmp/weights" >"$f"; done
most_lines=4 bad 3 'model\.safetensors|checkpoint' "$CHIMERA" generate "$tmp/hurt" -p x -n 4
for f in $(damaged); do rm "$f"; done
most_lines=4 bad 3 'model\.safetensors|checkpoint' "$CHIMERA" eval "$tmp/hurt"
if cmp -s "$weights" "$tmp/weights"; then ok; else no "the run's own checkpoint changed"; fi

# ---- a full disk -----------------------------------------------------------
mkdir "$tmp/small"
if mount -t tmpfs -o size=64k,mode=755 none "$tmp/small" 2>/dev/null; then
    undo="umount $tmp/small"
    most_lines=4 bad 5 'space|disk|full' "$CHIMERA" train "$conf" $data run.dir="$tmp/small/run" train.steps=4
    if [ -z "$(find "$tmp/small/run/ckpt" -name MANIFEST.json 2>/dev/null)" ]; then ok
    else no "a checkpoint that did not fit counts as whole"; fi
    umount "$tmp/small"
    undo=
else
    echo "no right to mount a small file system: the full disk is not tested"
fi
if [ -w /dev/full ]; then bad 5 'space|write' sh -c '"$1" plugins >/dev/full' sh "$CHIMERA"; fi
finish
