#!/bin/sh
# A run that is killed anywhere and goes on by the same command equals the one that was never
# killed: every weight, every moment, every line of metrics but its clock.  The shim kills at the
# N-th file operation, so the kills lie in every step and inside the writing of checkpoints.
#
#     STRIDE=n    every n-th file operation only (default 31); make soak takes them all
set -eu
# Thousands of fsync() calls: in memory where there is some
if [ -n "${MEMORY_TMPDIR:-}" ]; then export TMPDIR="$MEMORY_TMPDIR"; fi
. "$srcdir/tests/e2e/lib.sh"
. "$srcdir/tests/e2e/runs.sh"
stride=${STRIDE:-31}
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
        FAULT=call:$i:$how LD_PRELOAD=$shim train cut 1 || rc=$?
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
