#!/bin/sh
# The last held-out line of a training run says what its packed weights give: `chimera eval`, which has
# nothing else, prints the same digits from the run and from packed files, on 1 and 2 threads, by avx2 and by
# the portable kernels.
set -eu
. "$srcdir/tests/e2e/lib.sh"
make_corpus
data="task.train=$corpus/train task.heldout=$corpus/heldout"
field() { sed -n "s/.*\"$2\":\([^,}]*\).*/\1/p" "$1" | tail -n 1; }
try() {
    name=$1
    shift
    for n in 1 2; do
        # shellcheck disable=SC2086
        run 0 "$CHIMERA" train "$srcdir/conf/tiny.ini" $data train.steps=12 train.eval_every=5 train.checkpoint_every=5 train.keep=0 \
            run.dir="$tmp/$name.$n" run.threads=$n "$@"
        loss=$(field "$tmp/$name.$n/metrics.jsonl" heldout_loss)
        case $loss in *.?????*) ok ;; *) no "$name: the held-out loss is '$loss'" ;; esac
        for how in "run.threads=1" "run.threads=2" "backend.use=portable"; do
            run 0 "$CHIMERA" eval "$tmp/$name.$n" $how --output json
            got=$(field "$tmp/out" loss)
            if [ "$got" = "$loss" ]; then ok; else no "$name, $how: eval says $got, training measured $loss"; fi
        done
    done
    for e in $encodings; do
        run 0 "$CHIMERA" convert "$tmp/$name.1" -e $e -o "$tmp/$name.$e.b158"
        for n in 1 2; do
            run 0 "$CHIMERA" eval "$tmp/$name.$e.b158" run.threads=$n --output json
            if [ "$(field "$tmp/out" loss)" = "$loss" ]; then ok; else no "$name, $e, $n threads: the packed file says otherwise"; fi
        done
    done
    if [ "$(field "$tmp/$name.1/metrics.jsonl" heldout_loss)" = "$(field "$tmp/$name.2/metrics.jsonl" heldout_loss)" ]; then ok
    else no "$name: another loss on 2 threads"; fi
}
encodings="ternary2 tl2"
try ternary
try ramp train.lambda_warmup=0.9
encodings="ternary2 sherry125"
try sherry linear.quantizer=sherry linear.arenas=1
try plain linear.quantizer=sherry linear.extra_rmsnorm=no linear.embed.quantizer=sherry
try adapted linear.quantizer=sherry 'linear.adapter=hgf, lora'
# and sherry, ramps and adapters are not all the same
if [ "$(for n in ternary ramp sherry adapted; do field "$tmp/$n.1/metrics.jsonl" heldout_loss; done | sort -u | wc -l)" -eq 4 ]; then ok
else no "options change nothing"; fi
finish
