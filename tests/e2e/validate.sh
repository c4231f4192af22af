#!/bin/sh
# `chimera validate`: TAP that automake understands, choice of checks, exit codes, what the parent never does.
set -eu
. "$srcdir/tests/e2e/lib.sh"
mock=$builddir/tests/mock/.libs

# A plan, numbered lines in order however many run at once, a summary
run 0 "$CHIMERA" validate swiglu --only config --jobs 3
says out '^1\.\.5$'
says out '^ok 1 - layer/swiglu config\.defaults'
says out '^# swiglu: 5 checks in .* 0 failed, 0 crashed'
numbers=$(sed -n 's/^\(not \)\{0,1\}ok \([0-9]*\) .*/\2/p' "$tmp/out" | tr '\n' ' ')
if [ "$numbers" = "1 2 3 4 5 " ]; then ok; else no "numbers are $numbers"; fi
cp "$tmp/out" "$tmp/three"
run 0 "$CHIMERA" validate swiglu --only config --jobs 1
if [ "$(sed 's/ in .* s:/:/' "$tmp/three")" = "$(sed 's/ in .* s:/:/' "$tmp/out")" ]; then ok; else no "--jobs changes the output"; fi
run 0 "$CHIMERA" validate swiglu --only config --in-process
if [ "$(grep '^ok' "$tmp/three")" = "$(grep '^ok' "$tmp/out")" ]; then ok; else no "--in-process says something else"; fi

# By name, by path, by libtool's name
for subject in swiglu "$builddir/plugins/layers/swiglu.la" "$builddir/plugins/layers/.libs/swiglu.so"; do
    [ "$subject" = swiglu ] || [ -f "$subject" ] || continue
    run 0 "$CHIMERA" validate "$subject" --only manifest
    says out '^ok 1 - swiglu manifest$'
done

# A path with blanks and signs of INI files
mkdir "$tmp/odd, dir;#x"
chmod 755 "$tmp/odd, dir;#x"
if [ -f "$builddir/plugins/layers/.libs/swiglu.so" ]; then
    cp "$builddir/plugins/layers/.libs/swiglu.so" "$tmp/odd, dir;#x"
    for way in '' --in-process; do
        # shellcheck disable=SC2086 # one word or none
        run 0 "$CHIMERA" validate "$tmp/odd, dir;#x/swiglu.so" --only config $way
        says out '^ok 1 - layer/swiglu config\.defaults$'
    done
fi

# Choices
run 0 "$CHIMERA" validate --list
says out '^manifest  *file  *[a-z]'
says out '^config.random  *component '
if [ "$(awk '{ print $1 }' "$tmp/out" | sort | uniq -d)" = "" ]; then ok; else no "--list says a name twice"; fi
bad 2 "no check or family is called 'manifst', did you mean manifest" "$CHIMERA" validate swiglu --only manifst
bad 2 "no check or family is called 'xyz' - " "$CHIMERA" validate swiglu --only xyz
bad 2 'wanted( is)? one' "$CHIMERA" validate
bad 2 'must be at least 1' "$CHIMERA" validate swiglu --jobs -1
run 0 "$CHIMERA" validate byte --only config.meters
says out '^1\.\.0 # SKIP '

# What is not there, or refused, is a failed check, too
run 4 "$CHIMERA" validate swigluu
says out '^not ok 1 - swigluu manifest: FAILED'
says out "did you mean swiglu"
says err 'swigluu: 1 of 1 checks failed'
run 4 "$CHIMERA" validate "$tmp/none.so"
says out 'none\.so: No such file'
run 4 "$CHIMERA" validate "$mock/wrong_magic.so"
says out '^not ok 1 - wrong_magic manifest: FAILED'
says out '^# .*magic is 0x12345678'
echo 'not a plugin' >"$tmp/text.so"
run 4 "$CHIMERA" validate "$tmp/text.so"
says out '^not ok 1 - text manifest: FAILED'

# Nothing of the plugin runs in the process that the user started: its constructor leaves its process id
if [ -f "$mock/trace_constructor.so" ]; then
    CHIMERA_MOCK_TRACE=$tmp/trace sh -c 'echo $$ >"$1/pid"; exec "$2" validate "$3" --only manifest' - "$tmp" "$CHIMERA" \
        "$mock/trace_constructor.so" >"$tmp/out" 2>"$tmp/err" || no "trace_constructor is refused"
    if [ -s "$tmp/trace" ]; then ok; else no "no constructor ran at all"; fi
    if grep -qx "$(cat "$tmp/pid")" "$tmp/trace"; then no "a constructor ran in the parent"; else ok; fi
fi

# A closed pipe or an interrupt leaves no process behind
"$CHIMERA" validate gated_deltanet >"$tmp/out" 2>&1 &
pid=$!
sleep 0.3
kill -INT $pid 2>/dev/null || :
wait $pid 2>/dev/null || :
sleep 0.3
cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' >"$tmp/all" || :
if grep -qF "$CHIMERA validate gated_deltanet" "$tmp/all"; then no "left behind: $CHIMERA validate gated_deltanet"; else ok; fi
finish
