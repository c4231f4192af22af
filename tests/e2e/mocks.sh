#!/bin/sh
# Every broken plugin of tests/mock/sins.tsv is caught by the check that the table names, with the words that it
# names; where it says "only", by no other family; and each family is the only one to catch some mock.
#     MOCKS='name name' runs only these lines.
set -eu
. "$srcdir/tests/e2e/lib.sh"
limit=300
: "${CC:=cc}"
golden=${CHIMERA_GOLDEN:-$srcdir/../shared/golden}
tab=$(printf '\t')
mkdir "$tmp/so"
chmod 755 "$tmp" "$tmp/so"

# In $code the source that $1.sed names in a line `# of FILE`, or gated_deltanet, changed by it with what it includes from
# ../shared, all in $tmp/layers.  Each line must change something.
mutate() {
    of=$(sed -n 's/^# of //p' "$srcdir/tests/mock/sins/$1.sed")
    from=$srcdir/${of:-plugins/layers/gated_deltanet/gated_deltanet.c}
    rm -rf "$tmp/layers"
    mkdir -p "$tmp/layers/it"
    cp "$(dirname "$from")"/*.[ch] "$tmp/layers/it"
    cp -r "$srcdir/plugins/layers/shared" "$tmp/layers"
    chmod -R u+w "$tmp/layers"
    code=$tmp/layers/it/$(basename "$from")
    grep '^s' "$srcdir/tests/mock/sins/$1.sed" >"$tmp/edits"
    while read -r edit; do
        before=$(cat "$tmp"/layers/*/*.[ch] | cksum)
        for file in "$tmp"/layers/*/*.[ch]; do
            sed "$edit" "$file" >"$tmp/edited"
            cat "$tmp/edited" >"$file"
        done
        if [ "$before" = "$(cat "$tmp"/layers/*/*.[ch] | cksum)" ]; then echo "nothing changes by: $edit"; return 1; fi
    done <"$tmp/edits"
}

# The file of mock $1 in $so
build_mock() {
    so=$builddir/tests/mock/.libs/$1.so
    if [ -f "$so" ]; then return 0; fi
    so=$tmp/so/$1.so
    if [ -f "$so" ]; then return 0; fi
    code=$srcdir/tests/mock/sins/$1.c
    if [ -f "$srcdir/tests/mock/sins/$1.sed" ]; then mutate "$1" || return 1; fi
    # shellcheck disable=SC2086 # CC may be several words
    $CC -std=c11 -O1 -g -w -ffp-contract=off -shared -fPIC -fvisibility=hidden -I"$srcdir/core/include" -I"$srcdir/tests/mock" \
        -I"$srcdir" -o "$so" "$code" -lm 2>"$tmp/cc" || { cat "$tmp/cc"; return 1; }
}

# The line of check $1 in $tmp/out and those "# ..." after it, if it failed; all for reference vectors
words_of() {
    if [ "$1" = vectors ]; then cat "$tmp/out" "$tmp/err"; return 0; fi
    awk -v name="$1" '/^(not )?ok /{ on = $1 == "not" && index(" " $0 " ", " " name ":") } on' "$tmp/out"
}

# The families that complain in $tmp/out, one a line
families() {
    sed -n 's/^not ok [0-9]* - [^ ]* \([a-z_0-9]*\)[^ ]*: .*/\1/p' "$tmp/out" | sort -u
}

judge() {
    mock=$1 check=$2 words=$3 only=$4 arguments=$5
    build_mock "$mock" || { no "$mock does not compile"; return 0; }
    choice="--only $check"
    if [ "$check" = - ]; then
        run 0 "$CHIMERA" validate "$so"
        return 0
    fi
    if [ "$only" = warn ]; then
        run 0 "$CHIMERA" validate "$so" $choice
        if grep -q "^ok .* $check: warn" "$tmp/out" && grep -qF "$words" "$tmp/out"; then ok; else
            no "$mock: $check does not warn '$words':"; cat "$tmp/out"
        fi
        return 0
    fi
    if [ "$only" = only ] || [ "$check" = vectors ]; then choice=; fi
    # shellcheck disable=SC2086 # several words
    run 4 "$CHIMERA" validate "$so" $choice $arguments
    said=$(words_of "$check")
    if [ -z "$said" ]; then
        no "$mock: $check does not complain; these do:"
        grep -A 1 '^not ok' "$tmp/out" || :
        return 0
    fi
    case $said in
    *"$words"*) ok ;;
    *) no "$mock: $check does not say '$words':"; echo "$said" ;;
    esac
    if [ "$only" != only ]; then return 0; fi
    family=${check%%.*} all=$(families)
    if [ "$all" = "$family" ]; then ok; else
        no "$mock: only $family should complain, but these do:" $all
        grep -A 1 '^not ok' "$tmp/out" || :
    fi
    echo "$family" >>"$tmp/alone"
}

: >"$tmp/alone"
while IFS=$tab read -r mock check words only arguments; do
    case $mock in '#'* | '') continue ;; esac
    if [ -n "${MOCKS:-}" ]; then case " $MOCKS " in *" $mock "*) ;; *) continue ;; esac; fi
    case $arguments in
    *@GOLDEN@*)
        if [ ! -d "$golden" ]; then echo "$mock: skipped, no $golden"; continue; fi
        arguments=$(echo "$arguments" | sed "s|@GOLDEN@|$golden|g") ;;
    esac
    arguments=$(echo "$arguments" | sed "s|@DATA@|$srcdir/tests/data|g")
    judge "$mock" "$check" "$words" "$only" "$arguments"
done <"$srcdir/tests/mock/sins.tsv"

if [ -z "${MOCKS:-}" ]; then
    run 0 "$CHIMERA" validate --list
    for family in $(sed -n 's/^\([a-z_0-9]*\)[ .].*/\1/p' "$tmp/out" | sort -u); do
        if grep -qx "$family" "$tmp/alone"; then ok; else no "no mock is caught by the family $family alone"; fi
    done
fi
finish
