#!/bin/sh
# The studies: every configuration plans, says its claim, its papers and its page; the queue runs jobs side by side,
# stops when told, goes on, leaves no weights, and makes tables.
set -eu
. "$srcdir/tests/e2e/lib.sh"
make_corpus
for c in setsid taskset xargs; do command -v $c >/dev/null || { echo "$c is not here"; exit 77; }; done

# ---- the configurations
for conf in "$srcdir"/conf/ablations/study-*.ini; do
    name=$(basename "$conf" .ini)
    if grep -q '^; Claim: ' "$conf" && grep -q '^; Papers: ' "$conf"; then ok; else no "$name lacks claim or papers"; fi
    page=$(sed -n 's,^; Read with doc/results/\([a-z-]*\.md\).*,\1,p' "$conf")
    if [ -n "$page" ] && [ -e "$srcdir/doc/results/$page" ] && grep -q "$name" "$srcdir/doc/results/$page"; then ok
    else no "$name: its page '$page' is not there, or does not name it"; fi
    grep -q "($page)" "$srcdir/doc/results/README.md" && ok || no "doc/results/README.md does not lead to $page"
    grep -q "[\" ]${name#study-}[\" ]" "$srcdir/tests/bench/studies.sh" && ok || no "studies.sh does not run $name"
    set --
    grep -q 'accuracy' "$conf" || set -- task.train="$corpus/train" task.heldout="$corpus/heldout"
    case $name in study-s[35]*) set -- ;; esac
    run 0 "$CHIMERA" sweep "$conf" --dry-run "$@"
    says out '^[0-9]+ jobs, .* FLOPs of training'
done

# ---- the queue, in a small tree of its own
tree=$tmp/tree
mkdir -p "$tree/tests/bench" && cp -r "$srcdir/conf" "$tree/" && chmod -R u+w "$tree"
cp "$srcdir/tests/bench/studies.sh" "$tree/tests/bench/"
cat >"$tree/conf/ablations/study-parity.ini" <<'END'
; Claim: that the queue works.
include = ../mixers.ini
[model]
vocab_size = 2
[data]
task = parity
[task]
lengths = 8
heldout = 20
[train]
seq_len = 8
steps   = 40
batch_size = 4
checkpoint_every = 5
[sweep]
arm.deltanet-pos = layer.GD.allow_neg_eigval=no
arm.long         = layer.GD.allow_neg_eigval=yes & train.batch_size=8
run.seed = 1 | 2
metric   = accuracy
END
RUNS=$tmp/runs
export RUNS CHIMERA
queue() { run "$1" sh "$tree/tests/bench/studies.sh" $2; }
queue 2 'no-such-study'; says err "no study 'no-such-study'; there are: overwrite"
queue 2 '--jobs x'; says err 'want a number'
queue 2 '--jobs 0 parity'; says err 'want 1 or more'
CORPUS=$tmp/none run 77 sh "$tree/tests/bench/studies.sh" moe; says err 'no corpus'
queue 0 '--dry-run parity'; says out '^4 jobs, '; says out 'all studies: 4 jobs, .* core hours'
[ ! -e "$RUNS/parity/journal" ] && ok || no '--dry-run planned something'

sed -i 's/^steps .*/steps = 1000000/' "$tree/conf/ablations/study-parity.ini"
queue 143 '--jobs 2 --limit 2 parity'; says out 'goes on'
pgrep -f "$RUNS/parity" >"$tmp/left" && no "still there: $(cat "$tmp/left")" || ok
head -n 1 "$RUNS/queue" | grep -q '^[0-9.e+]* parity ' && ok || no 'the queue is not in order'
long=$("$CHIMERA" sweep "$RUNS/parity" --status | awk '$2 == "long" && $4 != "pending"' | wc -l)
[ "$long" -gt 0 ] && ok || no 'the jobs with more FLOPs did not come first'
begun=$(ls -d "$RUNS"/parity/*/ckpt/* | wc -l)
[ "$begun" -gt 0 ] && ok || no 'a job that was stopped has saved nothing'

sed -i 's/^steps .*/steps = 40/' "$tree/conf/ablations/study-parity.ini"
queue 0 '--jobs 2 parity'; says out '4 jobs to do, 2 at once'; says out '4 jobs: 4 done'
[ "$(wc -l <"$RUNS/parity/results.tsv")" = 5 ] && ok || no 'results.tsv is not there'
for id in $(sed 1d "$RUNS/parity/results.tsv" | cut -f 1); do
    [ ! -e "$RUNS/parity/$id/ckpt" ] && ok || no "$id has weights left"
done
queue 0 'parity'; says out '0 jobs to do'
queue 0 "--tables $tmp/tables parity"
grep -q '^"deltanet-pos".*baseline' "$tmp/tables/parity.csv" && ok || no 'no table'
grep -q '| long |' "$tmp/tables/parity.md" && ok || no 'no Markdown'
finish
