#!/bin/sh
# A whole ternary model here and in llama.cpp, in turn: attention and swiglu of the reference model's width, 24 layers, 1.99 G
# weights, head and embedding in one; TQ2_0 there, with its one scale for 256 weights, ternary2 here, with one for 128, so
# these are two models of one shape.  That llama.cpp computes what we do is checked by make check-gguf-llama.
# In the build folder; a gigabyte of disk, some 3 minutes.  77: there is no llama.cpp.
#   model_peers.sh [THREADS]...
set -eu
libraries=$("$srcdir/tests/llama_cpp.sh") || exit $?
folder=$PWD/llama.cpp/model
if [ ! -f "$folder/model.gguf" ]; then
    mkdir -p "$folder"
    cat >"$folder/model.ini" <<'INI'
[model]
hidden_size = 2560
num_hidden_layers = 24
vocab_size = 32768
layer_pattern = AT
ffn_pattern = MLP
[layer.AT]
use = attention
num_heads = 40
head_dim = 64
max_context = 1024
[layer.MLP]
use = swiglu
intermediate_size = 6912
[linear]
quantizer = ternary
[linear.embed]
quantizer = ternary
INI
    "$CHIMERA" init "$folder/model.ini" -o "$folder/theirs" linear.group_size=256 linear.embed.group_size=256
    "$CHIMERA" export "$folder/theirs/model.b158" -o "$folder/part.gguf" --architecture llama --as tq2_0 >"$folder/log"
    rm -rf "$folder/theirs" "$folder/ours"
    "$CHIMERA" init "$folder/model.ini" -o "$folder/ours"
    mv "$folder/part.gguf" "$folder/model.gguf"
fi
[ $# -gt 0 ] || set -- 1 0
for threads in "$@"; do "$MODEL_PEERS" "$libraries" "$folder/model.gguf" "$folder/ours/model.b158" "$threads"; done
