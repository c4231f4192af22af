#!/bin/sh
# The printed configuration reads back as itself from anywhere; slips are named; help and manual page agree.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad() { echo "$*" >&2; exit 1; }

"$CHIMERA" config "$srcdir/conf/tiny.ini" train.lr=0.25 --no-origins >"$dir/a.ini"
grep -q '^lr = 0.25$' "$dir/a.ini" || bad "the override is not in force"
(cd "$dir" && "$CHIMERA" config a.ini --no-origins | cmp - a.ini) || bad "the printed file reads back otherwise"
"$CHIMERA" config "$srcdir/conf/tiny.ini" train.lr=0.25 | grep -q '^lr .*; command line$' || bad "no origin"
"$CHIMERA" config "$srcdir/conf/tiny.ini" train.lr | grep -q 'learning rate' || bad "no documentation of train.lr"

refused() {
    want=$1; shift
    if "$CHIMERA" "$@" >"$dir/out" 2>"$dir/err"; then bad "$*: was accepted"; else rc=$?; fi
    [ "$rc" = 2 ] || bad "$*: exit code $rc"
    grep -q "^chimera: .*$want" "$dir/err" || { cat "$dir/err" >&2; bad "$*: does not say: $want"; }
}
refused 'did you mean lr?' config "$srcdir/conf/tiny.ini" train.rl=1
refused 'did you mean \[train\]?' config "$srcdir/conf/tiny.ini" trian.lr=1
refused 'must be a finite number' config "$srcdir/conf/tiny.ini" train.lr=fast
refused 'did you mean config?' cofnig
refused 'did you mean --no-origins?' config --no-orgins x
refused 'no such file' config "$dir/gone.ini"
"$CHIMERA" --man | grep -q '^.SS chimera config' || bad "the manual page lacks a verb"

# Every configuration that we ship can be planned; that of an optional library names its package, that
# of a CPU what it needs.
for f in "$srcdir"/conf/*.ini "$srcdir"/conf/ablations/*.ini; do
    case $f in
    */base.ini) continue ;;
    */chimera-*.ini)            # of every layer that the reference model has
        for part in mlstm titans_mac span_knot parcae; do
            "$CHIMERA" inspect $part >/dev/null 2>&1 || continue 2
        done ;;
    esac
    if "$CHIMERA" inspect "$f" >"$dir/out" 2>"$dir/err"; then
        case $f in
        */openblas.ini) grep -q '^computes with *openblas > ' "$dir/out" || bad "openblas does not come first" ;;
        *) ! grep -q openblas "$dir/out" || bad "$f: openblas is used without being named" ;;
        esac
    else
        case $f in
        */openblas.ini) grep -q 'libopenblas0' "$dir/err" || bad "$f: the message names no package" ;;
        */avx512.ini | */amx.ini | */neon.ini | */apple_amx.ini)
            grep -q 'does not provide\|no backend is called' "$dir/err" || bad "$f: the message names no feature" ;;
        *) cat "$dir/err" >&2; bad "$f cannot be planned" ;;
        esac
    fi
done
"$CHIMERA" inspect "$srcdir/conf/tiny.ini" backend.use=portable | grep -q '^computes with *portable,' ||
    bad "backend.use=portable uses something else"
