#!/bin/sh
# `chimera kernels`: what serves what and why; times that are kept, used, damaged; the same bits in all cases.
set -eu
. "$srcdir/tests/e2e/lib.sh"
mock=$builddir/tests/mock/.libs/racers.so
conf=$srcdir/conf/quickstart.ini
umask 022

run 0 "$CHIMERA" kernels --help
says out '--tune'
says out 'chimera kernels conf/quickstart.ini'
run 0 "$CHIMERA" kernels "$conf" run.threads=1
says out '^CPU  .*1 thread'
says out '^  portable  *-  used for what the others leave'
says out '^  openblas .*not used: its rank is below 0'
for f in dot axpy rmsnorm silu silu_mul silu_back softmax gemm delta_rule delta_rule_back quantize_i8 hebb_rule hebb_rule_back; do
    says out "^  $f  "
done
says out '^  ternary2  .*128x128 .*layers\.0\.mixer\.q_proj, \.\.\.'
says out 'dot, as above: these weights are never quantised'
if [ ! -e "$tmp/cache/chimera" ]; then ok; else no "looking wrote to the cache"; fi

# Groups that no backend has a kernel for are slow, which one line says of models that are large enough to feel it
if grep -q '^      avx2: the highest rank' "$tmp/out"; then
    run 0 "$CHIMERA" kernels "$conf" model.hidden_size=512 linear.group_size=64
    says err 'warning: .*ternary2 in groups of 64.*groups of 128 are fast .*or a multiple of it'
    run 0 "$CHIMERA" kernels "$conf" model.hidden_size=512
    if [ -s "$tmp/err" ]; then no "a warning without a reason: $(cat "$tmp/err")"; else ok; fi
    run 0 "$CHIMERA" kernels "$conf" model.hidden_size=512 linear.group_size=256
    if [ -s "$tmp/err" ] || grep -q 'portable: the only one' "$tmp/out"; then no 'groups of 256 are slow'; else ok; fi
fi

# Forced, by rank, and what the CPU lacks
run 0 "$CHIMERA" kernels "$conf" backend.use=portable
says out 'use = portable, autotune = yes: no part here'
says out '^  avx2 .*not used: (this CPU lacks|\[backend\] use = portable does not name it)'
says out '^  dot  *portable  *the only one'
says out 'portable: the only one'
run 0 "$CHIMERA" kernels "$conf" "plugins.load=$mock"
says out 'hare: the highest rank; not timed here'
says out 'stranger has one, too: this CPU lacks'
run 0 "$CHIMERA" kernels "$conf" "plugins.load=$mock" backend.use=snail,hare
says out 'snail: the first in \[backend\] use'
bad 2 'forces the order' "$CHIMERA" kernels "$conf" --tune backend.use=portable
bad 2 'no such file|cannot read' "$CHIMERA" kernels "$tmp/none.ini"

# Times: kept, shown, damaged, made anew
small="model.hidden_size=64 layer.GD.num_heads=1 layer.MLP.intermediate_size=64 run.threads=1"
run 0 "$CHIMERA" kernels "$conf" --tune $small
says out "^times in  *$tmp/cache/chimera/kernels-[0-9a-f]{16}$"
run 0 "$CHIMERA" kernels "$conf" $small
says out 'portable +one row +[0-9.]+ us +32 rows +[0-9.]+ us'
file=$(ls "$tmp"/cache/chimera/kernels-*)
cp "$file" "$tmp/kept"
head -c 100 "$tmp/kept" >"$file"
run 0 "$CHIMERA" kernels "$conf" $small
says err "warning: $file is damaged: kernels are chosen by rank"
run 0 "$CHIMERA" kernels "$conf" --tune $small
run 0 "$CHIMERA" kernels "$conf" $small
if [ -s "$tmp/err" ]; then no "still damaged: $(cat "$tmp/err")"; else ok; fi
bad 1 'cache|HOME' env -u XDG_CACHE_HOME -u HOME "$CHIMERA" kernels "$conf" --tune $small
bad 1 '/proc/nowhere' env XDG_CACHE_HOME=/proc/nowhere "$CHIMERA" kernels "$conf" --tune $small
finish
