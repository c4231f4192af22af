#!/bin/sh
# Every configuration that we ship trains: a step with few rows, then a held-out measurement.  The full-size
# model is only planned (config.sh); one for another CPU or of an optional library is left out where it cannot run.
set -eu
if [ -n "${MEMORY_TMPDIR:-}" ]; then export TMPDIR="$MEMORY_TMPDIR"; fi
. "$srcdir/tests/e2e/lib.sh"
make_corpus
conf=$srcdir/conf
n=0
for f in "$conf"/*.ini "$conf"/ablations/*.ini; do
    case $f in
    */base.ini | */chimera-5.1.ini) continue ;;
    */openblas.ini | */avx512.ini | */amx.ini | */neon.ini | */apple_amx.ini)
        "$CHIMERA" inspect "$f" >/dev/null 2>&1 || continue ;;
    esac
    "$CHIMERA" config "$f" --no-origins >"$tmp/config"
    # Made tasks take a number of held-out examples, text takes files.
    case $(sed -n 's/^task *= *//p' "$tmp/config") in
    text) set -- task.train="$corpus/train" task.heldout="$corpus/heldout" train.seq_len=32 ;;
    choice) set -- ;;
    *) set -- task.heldout=2 ;;
    esac
    if grep -q '^tokenizer *= bpe' "$tmp/config"; then      # its vocabulary is made at setup
        [ -e "$tmp/ranks" ] || "$CHIMERA" tokenizer train "$corpus/train" -n 300 -o "$tmp/ranks" >/dev/null 2>&1
        set -- "$@" tokenizer.file="$tmp/ranks" model.vocab_size=300
    fi
    run 0 "$CHIMERA" train "$f" "$@" train.steps=1 train.minutes=0 train.warmup_steps=0 train.batch_size=2 \
        run.threads=1 run.dir="$tmp/run"
    if grep -q '"heldout_' "$tmp/run/metrics.jsonl"; then ok; else no "$f: nothing was measured"; fi
    rm -rf "$tmp/run"
    n=$((n + 1))
done
echo "$n configurations"
[ $n -gt 40 ] || no "only $n configurations"
finish
