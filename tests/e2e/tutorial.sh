#!/bin/sh
# The commands of doc/tutorial-layer.md, in order, in an empty folder, with an installed chimera: every sh
# block must succeed, and every line of the text block behind it must occur in its output, but for numbers.
set -eu
. "$srcdir/tests/e2e/lib.sh"
umask 022
for tool in pkg-config patch cc; do
    command -v $tool >/dev/null || { echo "tutorial.sh: needs $tool: skipped"; exit 77; }
done
make="env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL ${MAKE:-make} -C $builddir -s"
# shellcheck disable=SC2086
limit=300 run 0 $make install prefix="$tmp/there" exec_prefix="$tmp/there"
unset CHIMERA_BUILD_PLUGINS CHIMERA_PLUGIN_PATH CHIMERA
PATH=$tmp/there/bin:$PATH PKG_CONFIG_PATH=$tmp/there/lib/pkgconfig
export PATH PKG_CONFIG_PATH
if [ ! -d "$tmp/there/lib/chimera" ]; then echo "tutorial.sh: this build has no shared plugins: skipped"; exit 77; fi

# Block i becomes block-i.sh, what it must print text-i
mkdir "$tmp/clean" "$tmp/blocks"
awk -v to="$tmp/blocks/" '
    /^```sh$/ { out = to "block-" sprintf("%02d", ++n) ".sh"; print "set -eu" >out; next }
    /^```text$/ { out = to "text-" sprintf("%02d", n); next }
    /^```/ { out = ""; next }
    out { print >out }' "$srcdir/doc/tutorial-layer.md"
plain() { sed 's/[0-9][0-9a-f.]*/#/g; s/[[:space:]][[:space:]]*/ /g' "$1"; }
cd "$tmp/clean"
for block in "$tmp"/blocks/block-*.sh; do
    number=${block##*-}
    number=${number%.sh}
    limit=300 run 0 sh "$block"
    [ -e "$tmp/blocks/text-$number" ] || continue
    plain "$tmp/out" >"$tmp/got"
    plain "$tmp/blocks/text-$number" >"$tmp/wanted"
    while IFS= read -r line; do
        if grep -Fq -- "$line" "$tmp/got"; then ok; else
            no "block $number does not print: $line"
            sed 's/^/    /' "$tmp/out" | tail -n 12
        fi
    done <"$tmp/wanted"
done
if [ "$(find "$tmp/blocks" -name 'block-*' | wc -l)" -ge 8 ]; then ok; else no "the tutorial has lost its commands"; fi
finish
