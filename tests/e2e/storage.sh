#!/bin/sh
# Makes every single file operation of a checkpoint save fail or kill the process, and
# checks each time that the newest whole checkpoint is the old or the new one.
set -eu
shim=$PWD/tests/shim/.libs/faultfs.so
drive=$PWD/tests/shim/ckptdrive
[ -f "$shim" ] || { echo "skip: no shim (static build or sanitizers)"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad() { echo "FAIL: $*"; exit 1; }

"$drive" save "$dir/old" 100
cp -a "$dir/old" "$dir/count"
FAULT_COUNT=$dir/calls LD_PRELOAD=$shim "$drive" save "$dir/count" 200
calls=$(cat "$dir/calls")
[ "$calls" -ge 25 ] || bad "only $calls file operations were seen"
[ "$("$drive" check "$dir/count")" = 200 ] || bad "a save without faults"
[ ! -d "$dir/count/ckpt/0000000100" ] || bad "keep = 1 kept two"

old=0; new=0
for how in kill short once:28 once:5 once:4 from:28; do      # ENOSPC, EIO, EINTR
    i=1
    while [ $i -le "$calls" ]; do
        rm -rf "$dir/run"; cp -a "$dir/old" "$dir/run"
        case $how in *:*) fault=call:$i:${how%:*}:${how#*:} ;; *) fault=call:$i:$how ;; esac
        rc=0
        FAULT=$fault LD_PRELOAD=$shim "$drive" save "$dir/run" 200 >"$dir/out" 2>&1 || rc=$?
        got=$("$drive" check "$dir/run" 2>"$dir/err") || bad "$fault: nothing loads: $(cat "$dir/err")"
        case $got in 100) old=$((old + 1)) ;; 200) new=$((new + 1)) ;; *) bad "$fault: step $got" ;; esac
        case $how in
        kill|short) [ $rc = 137 ] || bad "$fault: exit code $rc, not killed" ;;
        *)  [ $rc -lt 126 ] || bad "$fault: died with $rc"
            [ $rc != 0 ] || [ "$got" = 200 ] || bad "$fault: said saved, is not"
            case $how:$rc in *:28:[1-4]) bad "$fault: a full disk gave exit code $rc: $(cat "$dir/out")" ;; esac ;;
        esac
        # and the next run goes on as if nothing had been
        "$drive" save "$dir/run" 300 2>"$dir/err" || bad "$fault: cannot go on: $(cat "$dir/err")"
        [ "$("$drive" check "$dir/run")" = 300 ] || bad "$fault: going on"
        ls "$dir/run/ckpt" | grep -q tmp && bad "$fault: a .tmp stays"
        if grep -vq '^{"step": 1}$' "$dir/run/metrics.jsonl"; then bad "$fault: torn metrics"; fi
        i=$((i + 1))
    done
done
[ $old -gt 0 ] && [ $new -gt 0 ] || bad "faults hit only one side: $old old, $new new"
echo "$((old + new)) faults over $calls file operations: $old times the old state, $new times the new"
