#!/bin/sh
# chimera bench --model: the bytes and multiply-adds of a call are those of the linears that it meets, by
# hand: experts by the number that rows chose, a looped layer once a turn, the head for one row of a prompt.
set -eu
. "$srcdir/tests/e2e/lib.sh"
if ! command -v python3 >/dev/null; then echo "no python3 to count with"; exit 77; fi
cat >"$tmp/run.ini" <<INI
[model]
hidden_size = 64
num_hidden_layers = 2
vocab_size = 256
layer_pattern = GD
ffn_pattern = MOE MLP
[layer.GD]
use = gated_deltanet
num_heads = 2
head_dim = 16
[layer.MLP]
use = swiglu
intermediate_size = 128
[layer.MOE]
use = moe
n_routed_experts = 4
n_shared_experts = 1
num_experts_per_tok = 2
moe_intermediate_size = 32
[loop]
use = parcae
prelude = 0-0
loop = 1-1
loop_default = 2
[linear]
quantizer = int8
[linear.embed]
quantizer = int8
INI
cat >"$tmp/check.py" <<'PY'
import json, sys
lines = [json.loads(l) for l in open(sys.argv[1])]
d, vocab, inner, heads = 64, 256, 32, 2
def int8(o, i): return o // 16 * (-(-i // 64) * 64 * 16 + 64)    # tiles of 16 rows, 64 columns, 16 scales
mixer = [(inner, d)] * 4 + [(d, inner)]
gates = 2 * heads * d                                   # f32
mlp, expert = [(128, d)] * 2 + [(d, 128)], [(32, d)] * 2 + [(d, 32)]
bytes_of = lambda m: sum(int8(-(-o // 16) * 16, i) for o, i in m)
macs_of = lambda m: sum(o * i for o, i in m)
router, loop = 4 * d, 2 * d * d
def call(rows, turns, experts, logits):
    return (bytes_of(mixer) * (1 + turns) + 4 * gates * (1 + turns) + bytes_of(mlp) * turns + bytes_of(expert) * (1 + experts)
            + 4 * router + sum(loop_bytes(turns)) + int8(vocab, d),
            rows * ((macs_of(mixer) + gates) * (1 + turns) + macs_of(mlp) * turns + macs_of(expert) * 3 + router
                    + sum(loop_bytes(turns)) / 4) + logits * vocab * d)
def loop_bytes(turns): return [4 * d * d, 4 * d * d]     # B once, C once
one = {l["turns"]: l for l in lines if l["bench"] == "model_decode"}
assert sorted(one) == [1, 2], one
for turns, l in one.items():
    assert l["weight_bytes"] == call(1, turns, 2, 1)[0], (turns, l["weight_bytes"], call(1, turns, 2, 1))
    assert l["bytes"] == l["weight_bytes"] + l["state_bytes"] + l["written_bytes"] and l["tok_s"] > 0
assert one[2]["state_bytes"] > one[1]["state_bytes"]
many = [l for l in lines if l["bench"] == "model_batched"]
assert [l["rows"] for l in many] == [1, 2, 4, 8, 16], many
for l in many:
    assert round(l["gmacs"], 3) == round(call(l["rows"], 2, 2, l["rows"])[1] / 1e9, 3), l
prompt = [l for l in lines if l["bench"] == "model_prefill"]
assert [l["rows"] for l in prompt] == [128, 512]
for l in prompt:
    assert round(l["gmacs"], 3) == round(call(l["rows"], 2, 2, 1)[1] / 1e9, 3), (l, call(l["rows"], 2, 2, 1))
share = {}
for l in lines:
    if l["bench"] == "model_share":
        key = l["rows"], l["streams"]
        share[key] = share.get(key, 0) + l["share"]
assert sorted(share) == [(1, 1), (1, 16), (128, 1)] and all(abs(s - 1) < 1e-2 for s in share.values()), share
PY
run 0 "$CHIMERA" bench "$tmp/run.ini" --model --steps 3 --json run.threads=2
cp "$tmp/out" "$tmp/lines"
if python3 "$tmp/check.py" "$tmp/lines"; then ok; else no "the counts of bench --model are not those of its linears"; fi
finish
