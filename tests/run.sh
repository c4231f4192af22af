#!/bin/sh
# run.sh COMMAND... TEST - runs one test of `make check` with $TMPDIR and cache of its own, and, unless the caller named
# one, with $MEMORY_TMPDIR, a folder in memory where there is room.  Both go with all that the test left in
# them, even one that failed or was killed.  Adds a line to tests/times in the build: seconds of CPU, those of
# the test's processes too, seconds, and the test.
for name; do :; done
MEMORY_TMPDIR=
room=$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }')
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ] && [ "${room:-0}" -gt 250000 ]; then
    MEMORY_TMPDIR=$(mktemp -d /dev/shm/chimera-test.XXXXXX) || exit 99
fi
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/chimera-test.XXXXXX") || exit 99
XDG_CACHE_HOME=$TMPDIR/cache
export MEMORY_TMPDIR TMPDIR XDG_CACHE_HOME
trap : INT TERM HUP                 # the test ends by it, and then the folders go
begun=$(date +%s) rc=0
# Criterion leaves a socket in /tmp if it is killed: the test's process id tells which.
sh -c 'echo $$ >"$TMPDIR/pid"; exec "$@"' sh "$@" || rc=$?
times >"$TMPDIR/times"
rm -f "/tmp/criterion_$(cat "$TMPDIR/pid").sock"
mkdir -p "$builddir/tests"
tail -n 1 "$TMPDIR/times" | tr 'ms' '  ' | awk -v took=$(($(date +%s) - begun)) -v name="$name" \
    '{ printf "%.2f %d %s\n", 60 * $1 + $2 + 60 * $3 + $4, took, name }' >>"$builddir/tests/times"
for folder in "$TMPDIR" "$MEMORY_TMPDIR"; do
    [ -n "$folder" ] || continue
    chmod -R u+rwX "$folder"
    rm -rf "$folder"
done
exit $rc
