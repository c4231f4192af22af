#!/bin/sh
# The committed reference vectors are what their program writes, and the layer meets both; a layer with another
# formula does not (tests/mock/sins.tsv has copies of the layer with a part left out).
set -eu
. "$srcdir/tests/e2e/lib.sh"
committed=$srcdir/tests/data/gated_deltanet.safetensors

run 0 "$builddir/tests/data/gated_deltanet" "$tmp/again.safetensors"
run 0 "$CHIMERA" validate --vectors "$committed"
says out '^grad\.A_log .* tolerance 2e-05$'
run 0 "$CHIMERA" validate --vectors "$tmp/again.safetensors"

# Inputs and parameters, the second half of the file, do not depend on anybody's exp()
tail -c 3000 "$committed" >"$tmp/a"
tail -c 3000 "$tmp/again.safetensors" >"$tmp/b"
run 0 cmp "$tmp/a" "$tmp/b"

# One number changed: the last byte of expect.y's first value but one, its exponent
LC_ALL=C awk 'BEGIN { printf "%c", 64 }' >"$tmp/byte"
cp "$committed" "$tmp/wrong.safetensors"
chmod u+w "$tmp/wrong.safetensors"
begin=$(od -An -tu4 -N4 "$committed" | tr -d ' ')
dd if="$tmp/byte" of="$tmp/wrong.safetensors" bs=1 seek=$((8 + begin + 15)) conv=notrunc 2>/dev/null
run 4 "$CHIMERA" validate --vectors "$tmp/wrong.safetensors"
says out '^y  .*MISSED'

# A tensor that nobody looks at: expect.dx by another name of the same length
LC_ALL=C sed 's/"expect\.dx"/"expect.dz"/' "$committed" >"$tmp/wrong.safetensors"
bad 3 'nothing is compared with tensor expect.dz: what a layer gives is expect.y, expect.dx and expect.grad.NAME' \
    "$CHIMERA" validate --vectors "$tmp/wrong.safetensors"

# A gradient that nothing is compared with: expect.grad.A_log under the name of another tensor that nobody asks for
LC_ALL=C sed 's/"expect\.grad\.A_log"/"absent.grad.A_log"/' "$committed" >"$tmp/wrong.safetensors"
bad 3 'there is no expect.grad. tensor for parameter .*A_log: its gradient is compared with nothing' \
    "$CHIMERA" validate --vectors "$tmp/wrong.safetensors"
finish
