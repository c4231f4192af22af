#!/bin/sh
# SIGINT and SIGTERM save and end with 130 and 143, SIGUSR1 saves and ends with 0, a second signal
# ends at once; in a step, in an evaluation and before the first step.  What was saved goes on to
# the bits of a run without signals.
set -eu
. "$srcdir/tests/e2e/lib.sh"
. "$srcdir/tests/e2e/runs.sh"
name=f32
pid=
stop() { [ -z "$pid" ] || kill -9 "$pid"; }
undo=stop
awk 'BEGIN { for (k = 0; k < 40000; k++) print "held out line", k }' >"$tmp/long"
# start WORD...: a run in the background whose first lines of metrics are there
start() {
    rm -rf "$tmp/cut"
    "$CHIMERA" train "$tmp/f32.ini" run.dir="$tmp/cut" train.checkpoint_every=1000000 "$@" >"$tmp/out" 2>"$tmp/err" </dev/null &
    pid=$!
    i=0
    while [ ! -s "$tmp/cut/metrics.jsonl" ] && [ $i -lt 300 ]; do sleep 0.05; i=$((i + 1)); done
}
# ends CODE: the run ends so, within 10 seconds
ends() {
    i=0
    while kill -0 $pid 2>/dev/null && [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done
    if kill -0 $pid 2>/dev/null; then no "$what: still there after 10 s"; kill -9 $pid; fi
    rc=0
    wait $pid || rc=$?
    pid=
    if [ $rc -eq "$1" ]; then ok; else no "$what: exit code $rc, not $1: $(cat "$tmp/err")"; fi
}
saved() {
    if [ "$(find "$tmp/cut/ckpt" -name MANIFEST.json | wc -l)" -eq 1 ]; then ok; else no "$what: saved nothing"; fi
    if grep -q '"state": "stopped"' "$tmp/cut/status.json"; then ok; else no "$what: $(cat "$tmp/cut/status.json")"; fi
}

for s in INT:130 TERM:143 USR1:0; do
    what=SIG${s%:*}
    start train.steps=1000000
    kill -"${s%:*}" $pid
    ends "${s#*:}"
    saved
    if grep -q "$what: saved step" "$tmp/err"; then ok; else no "$what: does not say so: $(cat "$tmp/err")"; fi
done

# In the middle of a long evaluation: at once, saved, and repeated when the run goes on
what="SIGTERM in an evaluation"
start train.steps=3 train.eval_every=1 task.heldout="$tmp/long"
kill -TERM $pid || no "$what: $(cat "$tmp/err")"
ends 143
saved
if grep -q heldout "$tmp/cut/metrics.jsonl"; then no "$what: the evaluation ended before the signal"; else ok; fi

# A second signal does not wait for anything
what="a second signal"
start train.steps=1000000 train.batch_size=4000 train.micro_batch=4000
kill -TERM $pid || no "$what: $(cat "$tmp/err")"
sleep 0.1
kill -INT $pid 2>/dev/null || :
ends 130

# While the first steps are timed
what="SIGINT while timing"
rm -rf "$tmp/cut"
"$CHIMERA" train "$tmp/f32.ini" run.dir="$tmp/cut" train.steps=1000000 train.minutes=1 \
    train.batch_size=2000 train.micro_batch=1 >"$tmp/out" 2>"$tmp/err" </dev/null &
pid=$!
sleep 0.7
kill -INT $pid || no "$what: $(cat "$tmp/err")"
ends 130

# Signals at many places, one after the other, and then to the end: the bits of a quiet run
"$CHIMERA" train "$tmp/f32.ini" run.dir="$tmp/f32.whole" train.steps=40 train.eval_every=2 2>"$tmp/err" || no "$(cat "$tmp/err")"
lines "$tmp/f32.whole" >"$tmp/f32.lines"
rm -rf "$tmp/cut"
rounds=0 rc=1
while [ $rc -ne 0 ] && [ $rounds -lt 60 ]; do
    rc=0
    timeout -s TERM -k 10 0.$((5 + rounds % 5)) "$CHIMERA" train "$tmp/f32.ini" run.dir="$tmp/cut" train.steps=40 \
        train.eval_every=2 --resume 2>"$tmp/err" || rc=$?
    rounds=$((rounds + 1))
done
[ $rc -eq 0 ] || no "40 steps did not end in $rounds rounds: $(cat "$tmp/err")"
what="$rounds rounds of SIGTERM"
equal "$what"

# Nobody reads what is said any more: files are written whole, the others end
rm -rf "$tmp/cut"
echo 0 >"$tmp/rc"
{ "$CHIMERA" train "$tmp/f32.ini" run.dir="$tmp/cut" train.steps=40 2>&1 || echo $? >"$tmp/rc"; } | head -n 1 >"$tmp/out"
says out 'step|f32|chimera'
case $(cat "$tmp/rc") in 0|1|141) ok ;; *) no "train into a closed pipe: exit code $(cat "$tmp/rc")" ;; esac
if grep -q '"state": *"done"' "$tmp/cut/status.json"; then ok; else no "a run without a reader: $(cat "$tmp/cut/status.json")"; fi
for verb in "convert $tmp/cut -o $tmp/cut.b158" "export $tmp/cut -o $tmp/cut.gguf" "inspect $tmp/cut" "eval $tmp/cut" \
    "bench $tmp/cut --steps 1"; do
    # shellcheck disable=SC2086 # words
    { sleep 0.2; rc=0; "$CHIMERA" $verb 2>"$tmp/err" || rc=$?; echo $rc >"$tmp/rc"; } | true
    case $(cat "$tmp/rc") in 1|141) ok ;; *) no "chimera $verb into a closed pipe: exit code $(cat "$tmp/rc")" ;; esac
done
run 0 "$CHIMERA" eval "$tmp/cut.b158" --limit 300
run 0 "$CHIMERA" import "$tmp/cut.gguf" -o "$tmp/back.b158"

# On a terminal the status line fits, and the last line is whole
if command -v script >/dev/null; then
    rm -rf "$tmp/cut"
    script -qec "stty cols 60 && '$CHIMERA' train '$tmp/f32.ini' run.dir='$tmp/cut' train.steps=300" "$tmp/tty" >/dev/null </dev/null || no "a run on a terminal"
    sed -e '1d' -e '/^Script done/d' "$tmp/tty" | tr '\r' '\n' | sed 's/\x1b\[K//g' | grep '^step' >"$tmp/status" || no "no status line"
    if awk 'length($0) > 59 { exit 1 }' "$tmp/status"; then ok; else no "a status line is wider than the terminal"; fi
    if grep -q 'chimera: 300 steps done' "$tmp/tty"; then ok
    else no "the end of a run on a terminal: $(tail -n 3 "$tmp/tty")"; fi
fi
undo=
finish
