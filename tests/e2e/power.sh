#!/bin/sh
# What a power cut may leave: a write, a name, a removal counts only once an fsync of its file or
# folder has followed.  From the log of a run's file operations this computes, at each rename, what
# the disk may still lack, and wants nothing that the new name promises among it.  The log of a run
# with any one fsync struck out must fail, so each of them is needed.
set -eu
if [ -n "${MEMORY_TMPDIR:-}" ]; then export TMPDIR="$MEMORY_TMPDIR"; fi
. "$srcdir/tests/e2e/lib.sh"
. "$srcdir/tests/e2e/runs.sh"
name=f32
FAULT_LOG=$tmp/log LD_PRELOAD=$shim train f32.whole 1 || no "the run: $(cat "$tmp/err")"
cat >"$tmp/replay.awk" <<'AWK'
function folder(p) { sub(/\/[^\/]*$/, "", p); return p }
function under(p, d) { return index(p, d "/") == 1 }
function bad(text) { print NR ": " text; wrong++ }
skip == NR { next }
# dirty[p]: bytes of p, or names in folder p, that a power cut may take
$1 == "write"  { dirty[$2] = 1; if (!($2 in seen)) { seen[$2] = 1; dirty[folder($2)] = 1 } }
$1 == "write" && $2 ~ /\/metrics\.jsonl$/ && pending != "" { bad("the run goes on before " pending " is safe") }
$1 == "mkdir"  { dirty[folder($2)] = 1 }
$1 == "fsync"  { delete dirty[$2]; if ($2 ~ /\/ckpt$/) pending = "" }
$1 == "rename" && $2 ~ /\.tmp$/ && $3 !~ /\.tmp$/ {
    renames++
    for (p in dirty)
        if (p == $2 || under(p, $2)) bad($3 " gets its name before " p " is on the disk")
    # The lines before a checkpoint are those that its manifest counts
    if ($3 ~ /\/ckpt\//) {
        checkpoints++
        if ((folder(folder($3)) "/metrics.jsonl") in dirty) bad($3 " counts lines of metrics that are not on the disk")
        pending = $3
    }
    delete seen[$2]
    dirty[folder($3)] = 1
}
# An old checkpoint is given up: the new one must be there whatever happens
$1 == "rename" && $3 ~ /\.tmp$/ && pending != "" { bad($2 " goes before " pending " is safe") }
$1 == "unlink" || $1 == "rmdir" { if (pending != "" && $2 ~ /\/ckpt\//) bad($2 " goes before " pending " is safe"); delete seen[$2]; delete dirty[$2] }
END {
    if (pending != "") bad(pending " is never made safe")
    if (!renames || !checkpoints) bad("no checkpoint was seen")
    for (p in dirty) if (p ~ /(config\.ini|env\.json|status\.json|metrics\.jsonl|ckpt)$/) bad(p " is never on the disk")
    exit wrong > 0
}
AWK
if awk -f "$tmp/replay.awk" "$tmp/log" >"$tmp/why"; then ok; else no "a power cut could take: $(head -n 5 "$tmp/why")"; fi
# Without any one fsync of a checkpoint
first=$(grep -n ' .*/ckpt/' "$tmp/log" | head -n 1 | cut -d: -f1)
syncs=$(awk -v f="$first" 'NR >= f && $1 == "fsync" && $2 ~ /\/ckpt/ { print NR }' "$tmp/log")
struck=0
for n in $syncs; do
    if awk -v skip="$n" -f "$tmp/replay.awk" "$tmp/log" >"$tmp/why"; then
        no "the check passes without line $n: $(sed -n "${n}p" "$tmp/log")"
    else ok; fi
    struck=$((struck + 1))
done
[ $struck -ge 10 ] || no "only $struck fsyncs of checkpoints were seen"
echo "$(wc -l <"$tmp/log") file operations, $struck of the fsyncs struck out in turn"
finish
