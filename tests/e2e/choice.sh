#!/bin/sh
# Questions with several choices: a run on text is measured on them by --task, a run may train on them; rates and
# standard errors are those of the log-likelihoods that --samples writes, which no chunk and no thread changes;
# bad lines are refused by file and line.
set -eu
. "$srcdir/tests/e2e/lib.sh"
make_corpus
questions=$srcdir/tests/data/choice.jsonl
cat >"$tmp/run.ini" <<INI
[model]
hidden_size = 16
num_hidden_layers = 1
vocab_size = 257
layer_pattern = GD
ffn_pattern = MLP
[layer.GD]
use = gated_deltanet
num_heads = 2
head_dim = 8
[layer.MLP]
use = swiglu
intermediate_size = 32
[task]
train = $corpus/train
binary = yes
[train]
batch_size = 4
seq_len = 64
steps = 30
lr = 1e-2
[run]
dir = $tmp/run
INI
run 0 "$CHIMERA" train "$tmp/run.ini"
measure() { run 0 "$CHIMERA" eval "$tmp/run" --task choice task.heldout="$questions" "$@"; }
measure --samples "$tmp/samples" -o json
cp "$tmp/out" "$tmp/json"
for how in '--chunk 1' '--chunk 7' 'run.threads=3'; do
    # shellcheck disable=SC2086
    measure --samples "$tmp/again" -o json $how
    if cmp -s "$tmp/samples" "$tmp/again" && cmp -s "$tmp/out" "$tmp/json"; then ok; else no "eval $how gives another result"; fi
done
measure
says out 'all +acc 0\.[0-9]+ \+- 0\.[0-9]+ +acc_norm 0\.[0-9]+ \+- 0\.[0-9]+ +of 6'
says out 'short +acc'
says out 'questions +6, of 16 choices'

# Without the bytes of the choices, or with the context's tokens, other numbers would come out
if command -v python3 >/dev/null; then
    cat >"$tmp/check.py" <<'PY'
import json, math, sys
lines = [json.loads(l) for l in open(sys.argv[1])]
asked = [json.loads(l) for l in open(sys.argv[3]) if l.strip()]
said = json.load(open(sys.argv[2]))
def rates(some):
    n, acc, norm = len(some), 0, 0
    for q in some:
        per = [l / b for l, b in zip(q["loglikelihood"], q["bytes"])]
        right = q["loglikelihood"].index(max(q["loglikelihood"])) == q["answer"]
        by_byte = per.index(max(per)) == q["answer"]
        assert (right, by_byte) == (q["acc"], q["acc_norm"]), q
        acc, norm = acc + right, norm + by_byte
    return {"questions": n, "acc": acc / n, "acc_stderr": math.sqrt(acc / n * (1 - acc / n) / n),
            "acc_norm": norm / n, "acc_norm_stderr": math.sqrt(norm / n * (1 - norm / n) / n)}
assert len(lines) == len(asked)
for q, a in zip(lines, asked):
    assert q["bytes"] == [len(c.encode()) for c in a["choices"]], q
    assert q["answer"] == a["answer"] and q.get("slice") == a.get("slice"), q
checks = [("", rates(lines))]
checks += [("." + s, rates([q for q in lines if q.get("slice") == s])) for s in ("seen", "short", "empty")]
for dot, want in checks:
    for name, value in want.items():
        assert abs(said[name + dot] - value) < 1e-8, (name + dot, said[name + dot], value)
assert said["acc"] != said["acc_norm"], "the questions do not tell acc from acc_norm"
loss = -sum(sum(q["loglikelihood"]) for q in lines)
tokens = sum(b + 1 for q in lines for b in q["bytes"])          # and the blank
assert abs(said["loss"] - loss / tokens) < 1e-6, (said["loss"], loss / tokens)
PY
    run 0 python3 "$tmp/check.py" "$tmp/samples" "$tmp/json" "$questions"
fi

# A longer context is read, not scored: more bytes in front must not cost a choice tens of nats
echo '{"context": "line 3 of text 1 says 12 line 4 of text 1", "choices": ["says", "zzzz"], "answer": 0}' >"$tmp/long.jsonl"
run 0 "$CHIMERA" eval "$tmp/run" --task choice task.heldout="$tmp/long.jsonl" -o json

says out '"questions":1,"acc":1,'

# Training on the right choices, measured as it goes
cp "$questions" "$tmp/train.jsonl"
train() { dir=$1; shift; run 0 "$CHIMERA" train "$tmp/choice.ini" run.dir="$tmp/$dir" "$@"; }
sed "s|^train = .*|train = $tmp/train.jsonl|; s|^binary.*|heldout = $tmp/heldout.jsonl|; s|^\[task\]|[data]\ntask = choice\n[task]|" \
    "$tmp/run.ini" >"$tmp/choice.ini"
sed 's/line/word/' "$questions" >"$tmp/heldout.jsonl"
train learns train.eval_every=10
says err 'step 30: held-out acc 0\.[0-9]+, acc_norm 0\.[0-9]+ \(6 questions\)'
if [ "$(grep -c '"acc":.*"acc_stderr":.*"acc_norm":.*"acc.seen":.*"heldout_questions":6' "$tmp/learns/metrics.jsonl")" = 3 ]; then ok
else no "no acc in metrics.jsonl at steps 10, 20 and 30"; fi
run 0 "$CHIMERA" report "$tmp/learns"
says out 'acc'
bad 2 'train.eval_bytes' "$CHIMERA" train "$tmp/choice.ini" run.dir="$tmp/bad" train.eval_bytes=100
bad 2 'is for text' "$CHIMERA" eval "$tmp/learns" --limit 100
bad 2 'has no choices' "$CHIMERA" eval "$tmp/run" task.heldout="$corpus/heldout" --samples "$tmp/none"
bad 3 'nothing to train on' "$CHIMERA" train "$tmp/choice.ini" run.dir="$tmp/bad" task.train=
bad 3 'is in both' "$CHIMERA" train "$tmp/choice.ini" run.dir="$tmp/bad" task.heldout="$tmp/train.jsonl"
bad 4 'command line.*choise.*mean choice' "$CHIMERA" eval "$tmp/run" --task choise task.heldout="$questions"
bad 2 'binary' "$CHIMERA" eval "$tmp/run" --task choice task.heldout="$questions" task.binary=yes
for line in '{"context": "a", "choices": ["b", "c"], "answer": 2}' '{"context": "a"' '7' '{"context": "a", "choices": [], "answer": 0}'; do
    printf '{"context": "a", "choices": ["b", "c"], "answer": 0}\n%s\n' "$line" >"$tmp/broken.jsonl"
    bad 3 'broken.jsonl:2: ' "$CHIMERA" eval "$tmp/run" --task choice task.heldout="$tmp/broken.jsonl"
done
bad 3 'nowhere' "$CHIMERA" eval "$tmp/run" --task choice task.heldout="$tmp/nowhere"
if [ -e "$tmp/bad" ]; then no "a refused run left a folder"; else ok; fi
finish
