#!/bin/sh
# `chimera new KIND NAME`: what it writes compiles without a warning, passes the validator and does its
# work in a training run, for every kind; bad names, kinds and folders that are there are refused.
set -eu
. "$srcdir/tests/e2e/lib.sh"
umask 002                               # which must not make plugins that others may write
make_corpus
cp -r "$srcdir/conf" "$tmp/conf"
chmod -R u+w "$tmp/conf"
include="-I$srcdir/core/include -fvisibility=hidden -ffp-contract=off"
strict='-std=c11 -O2 -Wall -Wextra -Wpedantic -Werror'
compilers=${CC:-cc}
for c in gcc clang; do
    case $compilers in *$c) continue ;; esac
    if command -v $c >/dev/null; then compilers="$compilers|$c"; fi
done
cd "$tmp"

# use KIND: what a run says to use the plugin
use() {
    case $1 in
        layer) echo layer.GD.use=my_layer model.layer_pattern=GD ;;
        backend) echo backend.use=my_backend ;;
        quantizer) echo linear.quantizer=my_quantizer linear.encoding=int8 ;;
        loop) echo loop.use=my_loop loop.prelude=0-0 loop.loop=1-1 ;;
        adapter) echo linear.adapter=my_adapter ;;
        encoding) echo linear.encoding=my_encoding ;;
        objective) echo train.objective=my_objective ;;
        optimizer) echo train.optimizer=my_optimizer train.lr=1e-3 ;;
        tokenizer) echo data.tokenizer=my_tokenizer model.vocab_size=289 ;;
        task) echo data.task=my_task ;;
    esac
}
sed '/^num_heads\|^head_dim/d' conf/tiny.ini >conf/layer.ini
for kind in layer loop backend quantizer encoding adapter objective optimizer tokenizer task; do
    name=my_$kind
    run 0 "$CHIMERA" new $kind $name
    says out "$name/$name.c"
    if grep -rq '@' "$name"; then grep -q '\$@' "$name/Makefile" || no "$name: a blank was not filled in"; fi
    if [ "$(grep -rc '@[a-z]*@' "$name" | awk -F: '{ n += $2 } END { print n }')" = 0 ]; then ok; else no "$name: blanks left"; fi
    old=$IFS
    IFS='|'
    for c in $compilers; do
        IFS=$old
        rm -f "$name/$name.so"
        run 0 ${MAKE:-make} -s -C $name CC="$c" CFLAGS="$strict" CHIMERA_CFLAGS="$include"
        if [ -s "$tmp/err" ]; then no "$c says something about $name: $(head -n 1 "$tmp/err")"; else ok; fi
    done
    IFS=$old
    limit=300 run 0 ${MAKE:-make} -s -C $name check CHIMERA="$CHIMERA"
    if grep -q '^not ok' "$tmp/out"; then no "$name does not pass: $(grep '^not ok' "$tmp/out" | head -n 1)"; else ok; fi
    run 0 "$CHIMERA" inspect "./$name/$name.so"
    says out "$kind +$name"

    conf=conf/tiny.ini data="task.train=corpus/train task.heldout=corpus/heldout"
    [ $kind = layer ] && conf=conf/layer.ini
    [ $kind = task ] && data=
    # shellcheck disable=SC2046,SC2086
    run 0 "$CHIMERA" train $conf $data plugins.path="$tmp/$name" $(use $kind) run.dir="run-$kind" train.steps=3
    if [ "$(grep -c '"step"' "run-$kind/metrics.jsonl" 2>/dev/null)" -ge 3 ]; then ok; else no "$name: no 3 steps"; fi
    if grep -q "$name.so" "run-$kind/env.json" 2>/dev/null; then ok; else no "$name: env.json does not name $name.so"; fi
done
# A task that makes examples: no corpus, no tokenizer, accuracy with its slices
run 0 "$CHIMERA" new task my_max --examples
run 0 ${MAKE:-make} -s -C my_max CFLAGS="$strict" CHIMERA_CFLAGS="$include"
run 0 ${MAKE:-make} -s -C my_max check CHIMERA="$CHIMERA"
if grep -q '^not ok' "$tmp/out"; then no "my_max does not pass: $(grep '^not ok' "$tmp/out" | head -n 1)"; else ok; fi
run 0 "$CHIMERA" train conf/tiny.ini plugins.path="$tmp/my_max" data.task=my_max run.dir=run-max train.steps=3
if grep -q '"accuracy":.*"accuracy.max_9":' run-max/metrics.jsonl; then ok; else no "my_max: no accuracy in metrics.jsonl"; fi
bad 2 'examples is for tasks' "$CHIMERA" new layer my_other --examples

# An encoding and a backend change no bit (what this backend leaves out is portable); the others change the run.
tiny="$CHIMERA train conf/tiny.ini task.train=corpus/train task.heldout=corpus/heldout train.steps=3"
# shellcheck disable=SC2086
run 0 $tiny run.dir=run-plain
# shellcheck disable=SC2086
run 0 $tiny run.dir=run-portable backend.use=portable
losses() { sed -n 's/.*"loss": *\([0-9.e+-]*\).*/\1/p' "$1/metrics.jsonl" | head -n 3; }
if [ "$(losses run-encoding)" = "$(losses run-plain)" ]; then ok; else no "my_encoding changes the losses"; fi
if [ "$(losses run-backend)" = "$(losses run-portable)" ]; then ok; else no "my_backend changes the losses"; fi
for kind in layer loop quantizer adapter objective optimizer tokenizer task; do
    if [ "$(losses run-$kind)" != "$(losses run-plain)" ]; then ok; else no "my_$kind changes nothing"; fi
done

# Another folder, with parents that are not there
run 0 "$CHIMERA" new layer other -o deep/er/place
if [ -s deep/er/place/other.c ]; then ok; else no "-o did not write deep/er/place/other.c"; fi
before=$(cksum my_layer/*)
bad 2 'my_layer.*already' "$CHIMERA" new layer my_layer
if [ "$before" = "$(cksum my_layer/*)" ]; then ok; else no "my_layer was written over"; fi
mkdir empty
bad 2 'already' "$CHIMERA" new layer fresh -o empty
bad 2 'did you mean layer' "$CHIMERA" new layr x
bad 2 'no kind' "$CHIMERA" new '' x
for name in Upper 1st a-b a/b '' 'a b' ../x é "$(printf 'a%050d' 0)"; do
    bad 2 'name' "$CHIMERA" new layer "$name"
done
bad 2 'swiglu.*already' "$CHIMERA" new layer swiglu
bad 2 'new' "$CHIMERA" new layer
: >file
bad 1 'file' "$CHIMERA" new layer x -o file/x
if [ "$(id -u)" != 0 ]; then
    mkdir closed && chmod 555 closed
    bad 1 'closed' "$CHIMERA" new layer x -o closed/x
fi
finish
