#!/bin/sh
# Every file operation of a training run may fail: once or from then on, with a full disk (28), an
# I/O error (5), an interruption (4), or writes that store only a part.  The run either goes on (a
# warning, and the checkpoint is tried again at the next interval) or ends with one line and exit
# code 5 (1 for errors other than a lack of room).  Afterwards the same command without faults
# ends with the bits of the run that met none.
#
#     STRIDE=n    every n-th file operation only (default 47); make soak takes them all
set -eu
if [ -n "${MEMORY_TMPDIR:-}" ]; then export TMPDIR="$MEMORY_TMPDIR"; fi
. "$srcdir/tests/e2e/lib.sh"
. "$srcdir/tests/e2e/runs.sh"
stride=${STRIDE:-47}
name=f32
FAULT_COUNT=$tmp/calls LD_PRELOAD=$shim train f32.whole 1 || { cat "$tmp/err"; no "the whole run"; }
calls=$(cat "$tmp/calls")
lines "$tmp/f32.whole" >"$tmp/f32.lines"

faults=0 through=0 ended=0
for how in once:28 once:5 once:4 from:28 from:5 part; do
    i=$((1 + faults % stride))
    while [ $i -le "$calls" ]; do
        rm -rf "$tmp/cut"
        case $how in *:*) fault=call:$i:${how%:*}:${how#*:} ;; *) fault=call:$i:$how ;; esac
        rc=0
        FAULT=$fault LD_PRELOAD=$shim train cut 1 || rc=$?
        told=$(grep -vcE 'warning: |: step [0-9]|steps done|goes on from' "$tmp/err" || :)
        case $how:$rc in
        *:0) through=$((through + 1))
            [ "$told" -eq 0 ] || no "$fault: exit code 0, but: $(cat "$tmp/err")"
            equal "went through $fault" ;;
        *:28:5|*:5:1|*:4:1) ended=$((ended + 1))
            [ "$told" -eq 1 ] || no "$fault: $told lines instead of one: $(cat "$tmp/err")" ;;
        *) no "$fault: exit code $rc: $(cat "$tmp/err")" ;;
        esac
        if train cut 1; then equal "after $fault"; else no "after $fault: $(cat "$tmp/err")"; fi
        faults=$((faults + 1))
        i=$((i + stride))
    done
done
if [ $through -gt 0 ] && [ $ended -gt 0 ]; then ok; else no "$through runs went through, $ended ended"; fi

# A checkpoint that failed is made at the next interval, with a warning in between
fails() {
    rm -rf "$tmp/cut"
    FAULT=call:$1:once:28 LD_PRELOAD=$shim train cut 1 || no "one failed checkpoint ended the run: $(cat "$tmp/err")"
    if grep -q "no checkpoint at step 3: .*no space left" "$tmp/err"; then ok; else no "no warning: $(cat "$tmp/err")"; fi
    equal "a failed checkpoint"
}
# the first fsync of the first checkpoint: look for a call that gives the warning
i=20 found=
while [ $i -lt 60 ] && [ -z "$found" ]; do
    rm -rf "$tmp/cut"
    FAULT=call:$i:once:28 LD_PRELOAD=$shim train cut 1 || :
    if grep -q 'no checkpoint at step 3' "$tmp/err"; then found=$i; fi
    i=$((i + 3))
done
if [ -n "$found" ]; then fails "$found"; else no "no file operation made the first checkpoint fail"; fi

# A disk that is really full: the run folder on a file system of its own
mkdir "$tmp/disk"
if mount -t tmpfs -o size=1m,mode=755 none "$tmp/disk" 2>/dev/null; then
    undo="umount $tmp/disk"
    run 5 "$CHIMERA" train "$tmp/f32.ini" run.dir="$tmp/disk/run" train.keep=0 model.hidden_size=64
    says err 'free (some )?(space )?there|no space|free'
    umount "$tmp/disk"
    # and one that fills up in the middle: room is made before the end
    mount -t tmpfs -o size=8m,mode=755 none "$tmp/disk"
    "$CHIMERA" train "$tmp/f32.ini" run.dir="$tmp/disk/cut" train.steps=10 >"$tmp/out" 2>"$tmp/err" || no "8 MiB are enough"
    head -c 16000000 /dev/zero >"$tmp/disk/ballast" 2>/dev/null || :
    run 5 "$CHIMERA" train "$tmp/f32.ini" run.dir="$tmp/disk/cut" train.steps=14 --resume
    rm "$tmp/disk/ballast"
    if [ -f "$tmp/disk/cut/ckpt/0000000010/MANIFEST.json" ]; then ok; else no "a full disk cost the checkpoint"; fi
    run 0 "$CHIMERA" train "$tmp/f32.ini" run.dir="$tmp/disk/cut" train.steps=14 --resume
    umount "$tmp/disk"
    undo=
else
    echo "no right to mount a small file system: the really full disk is not tested"
fi
echo "$faults faults over $calls file operations: $through runs went through, $ended ended with one line"
finish
