#!/bin/sh
# Run folders with something wrong in them: one clear line, the documented code, nothing lost.
set -eu
. "$srcdir/tests/e2e/lib.sh"
make_corpus
conf=$srcdir/conf/tiny.ini
data="task.train=$corpus/train task.heldout=$corpus/heldout"
# shellcheck disable=SC2086
run 0 "$CHIMERA" train "$conf" $data run.dir="$tmp/run" train.steps=6 train.checkpoint_every=3
# hurt CODE PATTERN CHANGE VERB WORD...: in a copy that the shell command CHANGE spoils; the copy's
# files are afterwards what they were, but for the status, the log and the commands
hurt() {
    code=$1 pattern=$2 change=$3 verb=$4
    shift 4
    rm -rf "$tmp/x" "$tmp/before"
    cp -r "$tmp/run" "$tmp/x"
    sed -i "s|^dir .*|dir = $tmp/x|" "$tmp/x/config.ini"
    (cd "$tmp/x" && eval "$change")
    cp -r "$tmp/x" "$tmp/before"
    most_lines=1 bad "$code" "$pattern" "$CHIMERA" "$verb" "$tmp/x" "$@"
    if diff -r -x status.json -x log.txt -x command.txt -x lock -x env.json "$tmp/before" "$tmp/x" >"$tmp/diff"; then ok
    else no "$change: $verb changed the folder: $(head -n 3 "$tmp/diff")"; fi
}
each() { for f in ckpt/*/"$1"; do eval "$2"; done; }

# The configuration edited by hand
hurt 2 'layer\.GD\.num_heads: checkpoint 2, configured 4' "sed -i 's/^num_heads .*/num_heads = 4/' config.ini" train
hurt 2 'layer\.GD\.num_heads: checkpoint 2, configured 4' "sed -i 's/^num_heads .*/num_heads = 4/' config.ini" eval
hurt 2 'config\.ini:[0-9]+: train\.lr' "sed -i 's/^lr .*/lr = fast/' config.ini" train
hurt 2 'config\.ini:[0-9]+: .*garbage' 'echo garbage >>config.ini' eval
hurt 2 'config\.ini' 'rm config.ini' eval
hurt 2 'hidden_size: checkpoint 32, configured 48' : train model.hidden_size=48
# Damaged checkpoints: all of them, then only the newest
hurt 3 'none of the 2 checkpoints' 'each MANIFEST.json "echo {} >\$f"' train
hurt 3 'none of the 2 checkpoints' 'each MANIFEST.json ": >\$f"' generate -p x -n 3
hurt 3 'none of the 2 checkpoints' 'each MANIFEST.json "rm \$f"' eval
hurt 3 'none of the 2 checkpoints' 'each optimizer.safetensors "truncate -s 100 \$f"' train
hurt 3 'none of the 2 checkpoints' 'each model.safetensors "printf X | dd of=\$f bs=1 seek=9999 conv=notrunc status=none"' train
hurt 3 'no checkpoint yet' 'rm -r ckpt/*' eval
rm -rf "$tmp/x"
cp -r "$tmp/run" "$tmp/x"
rm "$tmp/x/ckpt/0000000006/model.safetensors"
run 0 "$CHIMERA" train "$tmp/x"
says err 'checkpoint 6 is skipped: .*model\.safetensors is missing'
if cmp -s "$tmp/x/ckpt/0000000006/model.safetensors" "$tmp/run/ckpt/0000000006/model.safetensors"; then ok
else no "from the older checkpoint to other weights"; fi
# Metrics, data, plugins, memory
hurt 3 'metrics\.jsonl has 0 bytes.*edited or replaced' ': >metrics.jsonl' train
hurt 3 'metrics\.jsonl' 'rm metrics.jsonl; touch metrics.jsonl' train
cp -r "$corpus/train" "$tmp/other"
echo 'one more line' >>"$tmp/other/3.txt"
hurt 3 'other data.*(old files|--fresh)' : train task.train="$tmp/other"
hurt 4 'nothere' "sed -i 's/^use .*= gated_deltanet.*/use = nothere/' config.ini" train
hurt 5 'needs .* memory.*memory_limit_mb' : train run.memory_limit_mb=1
if mkdir -p "$tmp/file" && : >"$tmp/file/x"; then bad 1 'a file of that name' "$CHIMERA" train "$conf" $data run.dir="$tmp/file/x/y"; fi
# A plan beyond the memory is refused before it is taken
if command -v bash >/dev/null; then
    # shellcheck disable=SC2086
    bad 5 'needs .* of memory' bash -c 'ulimit -v 2000000; exec "$@"' bash "$CHIMERA" train "$conf" $data run.dir="$tmp/big" \
        model.hidden_size=65536 model.num_hidden_layers=1024
    if [ ! -e "$tmp/big" ]; then ok; else no "a refused plan left a run folder"; fi
fi
# Sessions
run 0 "$CHIMERA" generate "$tmp/run" -p abc -n 5 --save-session "$tmp/s"
n=$(wc -c <"$tmp/s")
for k in 0 1 16 100 $((n / 2)) $((n - 1)); do
    head -c "$k" "$tmp/s" >"$tmp/s2"
    bad 3 's2.*(session|cut short)' "$CHIMERA" generate "$tmp/run" -p x -n 3 --load-session "$tmp/s2"
done
for k in 3 20 $((n / 2)) $((n - 3)); do
    cp "$tmp/s" "$tmp/s2"
    printf '\377' | dd of="$tmp/s2" bs=1 seek="$k" conv=notrunc status=none
    bad 3 's2' "$CHIMERA" generate "$tmp/run" -p x -n 3 --load-session "$tmp/s2"
done
finish
