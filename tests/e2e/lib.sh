# lib.sh - what the shell tests share: a folder that goes away, a small corpus, checks that count.
# Sourced with $CHIMERA and $srcdir set; afterwards $tmp is the folder, $corpus the corpus.
export LC_ALL=C
unset MAKEFLAGS MFLAGS MAKELEVEL                   # of the make that runs the tests
tmp=$(mktemp -d "${TMPDIR:-/tmp}/chimera-test.XXXXXX")
clean_up() {
    trap - EXIT INT TERM
    if [ -n "${undo:-}" ]; then $undo || :; fi
    chmod -R u+rwX "$tmp" 2>/dev/null || :
    rm -rf "$tmp"
}
trap clean_up EXIT
trap 'clean_up; exit 1' INT TERM
export XDG_CACHE_HOME="$tmp/cache"      # plugins that crash are remembered there
corpus=$tmp/corpus
make_corpus() {
    mkdir -p "$corpus/train" "$corpus/heldout"
    i=0
    while [ $i -lt 8 ]; do
        awk -v n=$i 'BEGIN { for (k = 0; k < 60; k++) printf "line %d of text %d says %d\n", k, n, k * (n + 3) % 17 }' \
            >"$corpus/train/$i.txt"
        i=$((i + 1))
    done
    awk 'BEGIN { for (k = 0; k < 40; k++) printf "line %d of text 9 says %d\n", k, k * 12 % 17 }' >"$corpus/heldout/9.txt"
}
checks=0 wrong=0
ok() { checks=$((checks + 1)); }
no() { checks=$((checks + 1)) wrong=$((wrong + 1)); printf 'not as it should be: %s\n' "$*"; }
finish() {
    echo "$checks checks, $wrong wrong"
    [ $wrong -eq 0 ] && [ $checks -gt 0 ]
}
# run CODE COMMAND...: output to $tmp/out and $tmp/err; a wrong exit code is told with both
run() {
    want=$1 got=0
    shift
    timeout -k 5 "${limit:-60}" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null || got=$?
    if [ $got -eq "$want" ]; then ok; return 0; fi
    no "exit code $got, wanted $want: $*"
    sed 's/^/    out: /' "$tmp/out" | tail -n 5
    sed 's/^/    err: /' "$tmp/err" | tail -n 5
    return 0
}
# says FILE PATTERN: an extended regular expression, in any case of letters
says() {
    if grep -Eiq -- "$2" "$tmp/$1"; then ok; return 0; fi
    no "std$1 lacks /$2/:"
    head -n 8 "$tmp/$1" | sed 's/^/    /'
}
# bad CODE PATTERN COMMAND...: fails with the code, and one line that matches says why
bad() {
    code=$1 pattern=$2
    shift 2
    run "$code" "$@"
    says err "$pattern"
    if grep -Eq 'Sanitizer|runtime error:|core dumped|Segmentation' "$tmp/err"; then
        no "crashed: $*"
        head -n 20 "$tmp/err"
    fi
    lines=$(grep -vc '^\(chimera: \)\{0,1\}[0-9 :]*warning' "$tmp/err" || :)
    if [ "$lines" -gt "${most_lines:-2}" ]; then
        no "$lines lines of errors, wanted one: $*"
        sed 's/^/    /' "$tmp/err" | head -n 8
    else
        ok
    fi
}
