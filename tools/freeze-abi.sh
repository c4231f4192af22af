#!/bin/sh
# freeze-abi.sh - `make freeze-abi`: copies today's headers and a plugin of every kind to tests/abi, against
# which tests/e2e/abi.sh holds the program from then on.  Only after a change of the interface that was
# meant: while MAJOR is 0 at any time, later when MAJOR moves.  freeze-abi.sh SOURCE CHIMERA
set -eu
source=$1 chimera=$2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
rm -rf "$source/tests/abi/include" "$source/tests/abi/plugins"
mkdir -p "$source/tests/abi/include/chimera" "$source/tests/abi/plugins"
cp "$source"/core/include/chimera/*.h "$source/tests/abi/include/chimera/"
for kind in layer loop backend quantizer encoding objective optimizer tokenizer task; do
    "$chimera" new $kind old_$kind -o "$tmp/$kind" >/dev/null
    cp "$tmp/$kind/old_$kind.c" "$source/tests/abi/plugins/"
done
sed -n 's/^#define CHI_ABI_\(MAJOR\|MINOR\) *\([0-9]*\).*/\2/p' "$source/core/include/chimera/base.h" | paste -sd . \
    | sed 's/^/plugin ABI /' >"$source/tests/abi/VERSION"
cat "$source/tests/abi/VERSION"
