#!/bin/sh
# The reference model is counted in a moment, beside what its seed declares, and takes no memory for it.
set -eu
. "$srcdir/tests/e2e/lib.sh"
conf=$srcdir/conf/chimera-5.1.ini
for part in mlstm titans_mac span_knot parcae; do
    "$CHIMERA" inspect "$part" >/dev/null 2>&1 || { echo "seed.sh: there is no $part yet: skipped"; exit 77; }
done
limit=20
run 0 sh -c "ulimit -v 4000000; exec '$CHIMERA' inspect '$conf' run.threads=1"
# Counted by hand from the shapes: 7 x (17 x 3 x 2560 x 1728 + 16 x 2560 + 16), and 3 experts of each layer
says out 'MOE: parameters +1\.58 G +350\.00 M +4\.51$'
says out 'MOE: parameters a token meets +278\.98 M +44\.00 M +6\.34$'
says out '^  parameters +4\.[0-9]+ G +2\.65 G '
says out '^  weights in memory .* 476 MB '
says out '^  state per stream .* 30 MB '
says out 'layers\.27\.ffn +moe +225\.65 M'
says out 'layers\.23\.mixer +span_knot'
says out 'embed \(and head\) +bf16 +512\.19 M +1\.0 GB'
[ "$(grep -c ' moe ' "$tmp/out")" -eq 7 ] && ok || no "$(grep -c ' moe ' "$tmp/out") layers of experts"
run 0 "$CHIMERA" inspect "$srcdir/conf/chimera-mini.ini"
finish
