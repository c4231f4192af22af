#!/bin/sh
# Memory does not grow with the context: a small model of the seed's pattern with its loop has read
# 1000 and 20,000 tokens, and its state, what it took and what is resident are the same.  Attention
# over everything it saw is the exception: it is refused beyond max_context, by name.
set -eu
. "$srcdir/tests/e2e/lib.sh"
cat >"$tmp/flat.ini" <<INI
[model]
hidden_size = 16
num_hidden_layers = 8
vocab_size = 257
layer_pattern = GD XM GD TM GD XM GD SK
ffn_pattern = MLP MLP MLP MOE
[layer.GD]
use = gated_deltanet
num_heads = 1
head_dim = 8
[layer.XM]
use = mlstm
num_heads = 1
head_dim = 8
[layer.TM]
use = titans_mac
num_heads = 1
head_dim = 8
persistent_memory_slots = 2
[layer.SK]
use = span_knot
num_heads = 1
head_dim = 8
[layer.AT]
use = attention
num_heads = 1
head_dim = 8
window = 0
max_context = 5000
[layer.MLP]
use = swiglu
intermediate_size = 16
[layer.MOE]
use = moe
n_routed_experts = 4
moe_intermediate_size = 8
[loop]
use = parcae
prelude = 0-1
loop = 2-5
coda = 6-7
[linear]
quantizer = ternary
[run]
threads = 1
INI
# number KEY TOKENS: of the line at so many tokens
number() { sed -n "s/.*\"tokens\": $2,.*\"$1\": \\([0-9]*\\).*/\\1/p" "$tmp/flat"; }
# flat: state and taken bytes alike at 1000 and 20,000 tokens, resident within 256 KB
flat() {
    for key in state_bytes taken_bytes; do
        if [ -n "$(number $key 1000)" ] && [ "$(number $key 1000)" = "$(number $key 20000)" ]; then ok; else no "$1: $key grows"; fi
    done
    if [ $(($(number rss_bytes 20000) - $(number rss_bytes 1000))) -le 262144 ]; then ok; else no "$1: resident memory grows"; fi
}
run 0 "$CHIMERA" bench "$tmp/flat.ini" --context 20000 --json
cp "$tmp/out" "$tmp/flat"
if [ "$(wc -l <"$tmp/flat")" -eq 4 ]; then ok; else no "wanted lines at 1, 1000, 10000 and 20000 tokens"; fi
flat "the seed's pattern"
# attention with a window
run 0 "$CHIMERA" bench "$tmp/flat.ini" --context 20000 --json layer.AT.window=64 "model.layer_pattern=GD AT"
cp "$tmp/out" "$tmp/flat"
flat "attention with a window"
# and without
bad 1 'layers\.1\.mixer.*max_context' "$CHIMERA" bench "$tmp/flat.ini" --context 20000 "model.layer_pattern=GD AT"
finish
