#!/bin/sh
# chimera bench --profile: the trace is JSON as about:tracing and Perfetto want it, its events are nested, and say which
# layers ran how often; the table's shares add up, and its FLOPs are those of the products.
set -eu
. "$srcdir/tests/e2e/lib.sh"
if ! command -v python3 >/dev/null; then echo "no python3 to read the trace with"; exit 77; fi
cat >"$tmp/run.ini" <<INI
[model]
hidden_size = 32
num_hidden_layers = 3
vocab_size = 64
layer_pattern = GD
ffn_pattern = MLP
[layer.GD]
use = gated_deltanet
num_heads = 2
head_dim = 16
[layer.MLP]
use = swiglu
intermediate_size = 64
[data]
task = copy
[task]
lengths = 4
symbols = 16
[train]
batch_size = 4
micro_batch = 2
seq_len = 16
[run]
threads = 2
INI
cat >"$tmp/check.py" <<'PY'
import json, sys
trace, table, recompute = json.load(open(sys.argv[1])), [json.loads(l) for l in open(sys.argv[2])], len(sys.argv) > 3
steps = {"train": 3, "prefill": 3, "decode": 60}
names = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M" and e["name"] == "thread_name"}
assert sorted(names.values()) == sorted(steps), names
events = [e for e in trace["traceEvents"] if e["ph"] == "X"]
assert len(events) + len(names) + 1 == len(trace["traceEvents"])
flops = {}
ns = lambda us: round(us * 1000)
for tid, phase in names.items():
    stack, count, some = [], {}, [e for e in events if e["tid"] == tid]
    for a, b in zip(some, some[1:]):
        assert ns(a["ts"]) <= ns(b["ts"]), "not in order"
    for e in some:
        begin, end = ns(e["ts"]), ns(e["ts"]) + ns(e["dur"])
        assert e["dur"] >= 0 and e["pid"] == 1 and e["cat"]
        while stack and stack[-1][1] <= begin: stack.pop()
        if stack: assert stack[-1][1] >= end, ("an event leaves the one around it", e)
        else: assert e["name"] == "step the rest", ("nothing around", e)
        stack.append((begin, end))
        count[e["name"]] = count.get(e["name"], 0) + 1
    n = steps[phase]
    assert count["step the rest"] == n, count
    for layer in range(3):
        for part in ("mixer", "ffn"):
            for op in ("forward", "step"):
                got = count.get("layers.%d.%s %s" % (layer, part, op), 0)
                if phase == "train": want = n * 2 * (1 + recompute) if op == "forward" else 0   # two micro-batches
                else: want = None
                assert want is None or got == want, (phase, layer, part, op, got, want)
            both = sum(count.get("layers.%d.%s %s" % (layer, part, op), 0) for op in ("forward", "step"))
            assert both == n * (2 * (1 + recompute) if phase == "train" else 1), (phase, both)
            assert count.get("layers.%d.%s backward" % (layer, part), 0) == (2 * n if phase == "train" else 0)
    assert sum(k.startswith("embed forward") for k in count) == 1
    assert ("optimizer update" in count) == ("data batch" in count) == (phase == "train"), count
    rows = [r for r in table if r.get("phase") == phase]
    assert abs(sum(r["share"] for r in rows) - 1) < 0.01, sum(r["share"] for r in rows)
    assert all(r["ms"] >= 0 and r["calls"] >= 1 and 0 <= r["share"] <= 1 for r in rows)
    flops[phase] = {r["name"]: r["flops"] for r in rows if r["op"] in ("forward", "step") and r["component"] not in ("norms", "core")}
    if phase == "train":
        forward = sum(r["flops"] for r in rows if r["op"] == "forward" and "." in r["name"] and r["component"] != "norms")
        backward = sum(r["flops"] for r in rows if r["op"] == "backward" and "." in r["name"] and r["component"] != "norms")
        assert abs(backward * (1 + recompute) - 2 * forward) < 1, (forward, backward)
# A row of SwiGLU is three products of 32 x 64, one of the head 64 x 32; rows of a prefill are 256, of a step 64
for layer in range(3):
    ffn, mixer = "layers.%d.ffn" % layer, "layers.%d.mixer" % layer
    assert flops["decode"][ffn] == 2 * 3 * 32 * 64, flops["decode"]
    assert flops["prefill"][ffn] == 256 * flops["decode"][ffn] and flops["prefill"][mixer] == 256 * flops["decode"][mixer]
    if not recompute:
        assert flops["decode"][mixer] > 2 * 5 * 32 * 32 and flops["train"][ffn] % flops["decode"][ffn] == 0
assert flops["decode"]["head"] == flops["prefill"]["head"] == 2 * 64 * 32
PY
run 0 "$CHIMERA" bench "$tmp/run.ini" --profile --steps 3 --json --out "$tmp/trace.json"
cp "$tmp/out" "$tmp/table"
run 0 python3 "$tmp/check.py" "$tmp/trace.json" "$tmp/table"
run 0 "$CHIMERA" bench "$tmp/run.ini" --profile --steps 3 --json --out "$tmp/trace.json" train.recompute=block
cp "$tmp/out" "$tmp/table"
run 0 python3 "$tmp/check.py" "$tmp/trace.json" "$tmp/table" recompute
run 0 "$CHIMERA" bench "$tmp/run.ini" --profile --steps 2
says out 'limits with 2 thread'
says out 'layers.2.mixer +backward +gated_deltanet'
says out '^decode: .* ms a step'
# Without its data a configuration is profiled on random tokens
sed 's/^task = copy/task = text/; s/^lengths.*/train = nowhere/; /^symbols/d; s/^vocab_size.*/vocab_size = 257/' "$tmp/run.ini" >"$tmp/text.ini"
run 0 "$CHIMERA" bench "$tmp/text.ini" --profile --steps 2
says err 'random tokens are trained on: .*nowhere'
bad 2 'for the trace of --profile' "$CHIMERA" bench "$tmp/run.ini" --train --steps 2 --out "$tmp/x.json"
# What cannot be written is said before anything is measured
bad 1 'nowhere' "$CHIMERA" bench "$tmp/run.ini" --profile --steps 1000000 --out "$tmp/nowhere/x.json"
bad 1 'directory' "$CHIMERA" bench "$tmp/run.ini" --profile --steps 1000000 --out "$tmp"
finish
