#!/bin/sh
# check.sh - make check-torch: reference vectors written by tools/vectors.py from PyTorch layers, one of
# somebody else's (the parallel form of retention) and one of ours, pass in `chimera validate`; and a
# gradient or an option that is wrong does not.
set -eu
. "$srcdir/tests/e2e/lib.sh"
python=
for p in python3 /usr/bin/python3; do
    if $p -c 'import torch' 2>/dev/null; then python=$p; break; fi
done
if [ -z "$python" ]; then
    echo "check.sh: needs PyTorch (Debian: python3-torch): skipped"
    exit 77
fi
umask 022
limit=300
write="$python $srcdir/tools/vectors.py"
example=$srcdir/examples/retention-layer
# shellcheck disable=SC2086
run 0 ${CC:-cc} -std=c11 -O2 -shared -fPIC -fvisibility=hidden -ffp-contract=off -I"$srcdir/core/include" \
    -o "$tmp/retention.so" "$example/retention.c"
# shellcheck disable=SC2086
for size in '--batch 2 --rows 37' '--batch 1 --rows 150 --seed 5'; do
    run 0 $write "$example/retention_torch.py" -o "$tmp/r.safetensors" $size
    run 0 "$CHIMERA" validate "$tmp/retention.so" --vectors "$tmp/r.safetensors"
    says out 'grad\.group_norm\.bias .*tolerance'
    run 0 $write "$srcdir/tests/torch/swiglu.py" -o "$tmp/s.safetensors" $size
    run 0 "$CHIMERA" validate --vectors "$tmp/s.safetensors" "$tmp/r.safetensors"
    says out '1 passed, 1 skipped'
done
sed 's/silu(self.w1(x))/gelu(self.w1(x))/' "$srcdir/tests/torch/swiglu.py" >"$tmp/wrong_swiglu.py"
run 0 $write "$tmp/wrong_swiglu.py" -o "$tmp/w.safetensors"
bad 4 'missed their tolerance' "$CHIMERA" validate --vectors "$tmp/w.safetensors"
says out 'MISSED'
# A group norm does not see the scale of what it divides, but for its epsilon: so the scale is close, the decay is not
sed 's/2\.0 \*\* (-5/2.0 ** (-4/' "$example/retention_torch.py" >"$tmp/wrong.py"
run 0 $write "$tmp/wrong.py" -o "$tmp/w.safetensors"
bad 4 'missed their tolerance' "$CHIMERA" validate "$tmp/retention.so" --vectors "$tmp/w.safetensors"
finish
