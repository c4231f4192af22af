#!/bin/sh
# The reference model is counted in a moment, beside what its seed declares, and takes no memory for it;
# the same pattern at a small size trains.
set -eu
. "$srcdir/tests/e2e/lib.sh"
conf=$srcdir/conf/chimera-5.1.ini
for part in mlstm titans_mac span_knot parcae; do
    "$CHIMERA" inspect "$part" >/dev/null 2>&1 || { echo "seed.sh: there is no $part yet: skipped"; exit 77; }
done
limit=20
run 0 sh -c "ulimit -v 4000000; exec '$CHIMERA' inspect '$conf' run.threads=1"
# Counted by hand from the shapes: 7 x (17 x 3 x 2560 x 1728 + 16 x 2560 + 16), and 3 experts of each layer
says out 'MOE: parameters +1\.58 G +350\.00 M +4\.51$'
says out 'MOE: parameters a token meets +278\.98 M +44\.00 M +6\.34$'
says out '^  parameters +4\.[0-9]+ G +2\.65 G '
says out '^  weights in memory .* 476 MB '
says out '^  state per stream .* 30 MB '
says out 'layers\.27\.ffn +moe +225\.65 M'
says out 'layers\.23\.mixer +span_knot'
says out 'embed \(and head\) +int8 +512\.19 M +513 MB'
[ "$(grep -c ' moe ' "$tmp/out")" -eq 7 ] && ok || no "$(grep -c ' moe ' "$tmp/out") layers of experts"

# The same pattern at a small size: every letter learns, in two steps that any threads repeat, and speaks
make_corpus
mini() {
    dir=$tmp/$1
    shift
    run 0 "$CHIMERA" train "$srcdir/conf/chimera-mini.ini" train.minutes=0 train.steps=2 train.warmup_steps=1 \
        train.batch_size=2 train.seq_len=48 train.eval_bytes=200 task.train="$corpus/train" \
        task.heldout="$corpus/heldout" run.dir="$dir" "$@"
}
mini one run.threads=1
mini three run.threads=3
cmp "$tmp/one/ckpt/0000000002/model.safetensors" "$tmp/three/ckpt/0000000002/model.safetensors" && ok ||
    no "three threads learn something else"
grep -q '"moe_expert_load_balance":' "$tmp/one/metrics.jsonl" && ok || no "no balance of experts in the metrics"
grep -q '"heldout_bpb":[0-9]' "$tmp/one/metrics.jsonl" && ok || no "the held-out text was not measured"
run 0 "$CHIMERA" generate "$tmp/one" -p 'line' -n 5
finish
