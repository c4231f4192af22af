#!/bin/sh
# full_size.sh FOLDER - the reference model at its full size: conf/chimera-5.1.ini is written to FOLDER (unless it is
# there), counted, run with ids, refused where it should be, and started with a cold and a warm page cache.
# Wants 2 GB of disk, 3 GB of memory and some core minutes.  What must hold is checked; times are printed.
set -eu
folder=${1:?the folder of the model}
conf=$srcdir/conf/chimera-5.1.ini
mkdir -p "$(dirname "$folder")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wrong=0
no() { wrong=$((wrong + 1)); echo "not as it should be: $*"; }
refused() {
    code=$1 pattern=$2 got=0
    shift 2
    "$@" >"$work/out" 2>"$work/err" || got=$?
    [ $got -eq "$code" ] && grep -Eq -- "$pattern" "$work/err" || no "exit code $got, wanted $code and /$pattern/: $(cat "$work/err")"
}
start() {
    "$CHIMERA" generate "$folder" --ids "1 2 3" -n 2 --timing 2>&1 >/dev/null | grep 'first token'
}

# ---- written in blocks
if [ ! -e "$folder/model.b158" ]; then
    "$CHIMERA" init "$conf" -o "$folder" 2>"$work/err" || { cat "$work/err"; exit 1; }
    tail -n 1 "$work/err"
    peak=$(sed -n 's/.*at most \([0-9.]*\) MB.*/\1/p' "$work/err")
    [ "${peak%.*}" -lt 300 ] || no "writing it took $peak MB"
fi
"$CHIMERA" inspect "$folder" >"$work/out"
sed -n '/^parameters/,$p' "$work/out"
grep -q '^parameters .*4146691856' "$work/out" || no "other parameters than 4146691856"

# ---- from closed to the first token; the first run may look at every byte once (run.verify)
start
for i in 1 2 3; do echo "warm: $(start)"; done
if sync && echo 3 2>/dev/null >/proc/sys/vm/drop_caches; then echo "cold: $(start)"
else echo "cold: not measured, which takes root"; fi
echo "one turn: $("$CHIMERA" generate "$folder" --ids "1 2 3" -n 12 loop.loops=1 2>&1 >/dev/null)"
echo "two turns: $("$CHIMERA" generate "$folder" --ids "1 2 3" -n 12 2>&1 >/dev/null)"
echo "100 of 200073 tokens allowed: $("$CHIMERA" generate "$folder" --ids "1 2 3" -n 12 --allow 500-599 2>&1 >/dev/null)"

# ---- streams and memory
set --
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17; do set -- "$@" --ids "$i 7"; done
refused 2 'stream 17 is refused' "$CHIMERA" generate "$folder" "$@" --batch 17 -n 2
refused 5 'weights 1\.6 GB \(int8 513 MB, .*states .*16 streams of' "$CHIMERA" generate "$folder" "$@" --batch 16 -n 2 loop.loops=4
"$CHIMERA" generate "$folder" "$@" --batch 16 -n 2 >"$work/sixteen" 2>"$work/err" || no "16 streams: $(cat "$work/err")"
echo "16 streams at once: $(tail -n 1 "$work/err")"
"$CHIMERA" generate "$folder" --ids "16 7" --stream 15 -n 2 -o jsonl >"$work/alone" 2>"$work/err"
"$CHIMERA" generate "$folder" "$@" --batch 16 -n 2 -o jsonl 2>"$work/err" | sed -n 's/^{"index":15,/{"index":0,/p' >"$work/sixteen"
cmp -s "$work/alone" "$work/sixteen" || no "a stream among 16 says something else than alone"
echo "$wrong wrong"
[ $wrong -eq 0 ]
