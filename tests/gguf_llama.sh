#!/bin/sh
# llama.cpp's own code on files of chimera export, and chimera import on files of llama.cpp's writer; see gguf_llama.c.
# Run by make check-gguf-llama in the build folder, with the program in $GGUF_LLAMA; 77: there is no llama.cpp.
set -eu
libraries=$("$srcdir/tests/llama_cpp.sh") || exit $?
. "$srcdir/tests/e2e/lib.sh"
make_corpus
# Groups of 256 fit the blocks, rows of 64 do not; the embedding's int8 brings scales of its own
run 0 "$CHIMERA" train "$srcdir/conf/tiny.ini" "task.train=$corpus/train" "task.heldout=$corpus/heldout" train.steps=1 \
    train.warmup_steps=0 "run.dir=$tmp/run" run.threads=1 model.hidden_size=256 layer.GD.head_dim=32 \
    layer.MLP.intermediate_size=512 linear.group_size=256 linear.embed.quantizer=int8
run 0 "$CHIMERA" init "$srcdir/tests/data/moe.ini" -o "$tmp/moe" model.hidden_size=256 linear.group_size=256
run 0 "$CHIMERA" convert "$tmp/run" -o "$tmp/dense.b158"
ln -s moe/model.b158 "$tmp/moe.b158"
ln -s moe/model_experts.b158 "$tmp/moe_experts.b158"
for model in dense moe; do
    run 0 "$CHIMERA" export "$tmp/$model.b158" -o "$tmp/$model.safetensors"
    for as in tq1_0 tq2_0 f16 f32; do
        run 0 "$CHIMERA" export "$tmp/$model.b158" -o "$tmp/$model.$as.gguf" --as $as
        run 0 "$GGUF_LLAMA" "$libraries" compare "$tmp/$model.$as.gguf" "$tmp/$model.safetensors"
        says out " 0 wrong$"
        says out "^$as layers.0.mixer.q_proj.weight"
        [ $as = f32 ] || says out "^f16 "
    done
    for as in tq1_0 tq2_0; do
        run 0 "$GGUF_LLAMA" "$libraries" write "$tmp/$model.$as.gguf" $as "$tmp/theirs.gguf"
        run 0 "$CHIMERA" import "$tmp/theirs.gguf" -o "$tmp/theirs.b158"
        run 0 "$CHIMERA" export "$tmp/theirs.b158" -o "$tmp/theirs.safetensors"
        run 0 "$GGUF_LLAMA" "$libraries" compare "$tmp/theirs.gguf" "$tmp/theirs.safetensors"
        says out " 0 wrong$"
        rm -f "$tmp"/theirs*
    done
done
# Attention and swiglu: llama.cpp runs the model.  Floats agree as floats do; with trits both sides round activations
# to int8, in groups of their own.  Weights of this size make attention count: a wrong rope_theta differs by 1
cat >"$tmp/llama.ini" <<INI
include = $srcdir/conf/base.ini
[model]
hidden_size = 256
num_hidden_layers = 2
vocab_size = 300
initializer_range = 0.1
layer_pattern = AT
ffn_pattern = MLP
[layer.AT]
use = attention
num_heads = 4
head_dim = 64
[layer.MLP]
use = swiglu
intermediate_size = 512
[run]
threads = 1
INI
runs_there() {
    name=$1 bound=$2
    shift 2
    run 0 "$CHIMERA" train "$tmp/llama.ini" "task.train=$corpus/train" "task.heldout=$corpus/heldout" train.steps=1 \
        train.warmup_steps=0 train.batch_size=1 train.seq_len=16 "run.dir=$tmp/$name" "$@"
    run 0 "$CHIMERA" export "$tmp/$name" -o "$tmp/$name.gguf" --architecture llama
    run 0 "$LLAMA_RUN" "$libraries" "$tmp/$name.gguf" "$tmp/$name" $bound
    says out '^logits differ by '
    echo "$name: $(cat "$tmp/out")"
}
runs_there floats 2e-5
runs_there untied 2e-5 model.tie_word_embeddings=no layer.AT.head_dim=32 model.rms_norm_eps=0.01
runs_there trits 0.1 linear.quantizer=ternary linear.group_size=256
runs_there theta 2e-5 layer.AT.rope_theta=500
run 0 "$CHIMERA" tokenizer train "$corpus/train" -n 300 -o "$tmp/vocabulary"
runs_there tokens 2e-5 data.tokenizer=bpe "tokenizer.file=$tmp/vocabulary" tokenizer.split=o200k
run 1 "$LLAMA_RUN" "$libraries" "$tmp/floats.gguf" "$tmp/theta" 0.5
# gated_deltanet and swiglu, as the recurrent blocks of architecture qwen35: another implementation of this mixer
if grep -q qwen35 "$libraries"/libllama.* && command -v python3 >/dev/null 2>&1; then
    sed -e 's/AT/GD/' -e 's/use = attention/use = gated_deltanet/' "$tmp/llama.ini" >"$tmp/delta.ini"
    run 0 "$CHIMERA" train "$tmp/delta.ini" "task.train=$corpus/train" "task.heldout=$corpus/heldout" train.steps=1 \
        train.warmup_steps=0 train.batch_size=1 train.seq_len=16 "run.dir=$tmp/delta" data.tokenizer=bpe \
        "tokenizer.file=$tmp/vocabulary" tokenizer.split=o200k
    run 0 "$CHIMERA" export "$tmp/delta" -o "$tmp/delta.safetensors"
    run 0 python3 -B "$srcdir/tests/qwen35.py" "$tmp/delta.safetensors" "$tmp/delta.gguf"
    run 0 "$LLAMA_RUN" "$libraries" "$tmp/delta.gguf" "$tmp/delta" 2e-5
    echo "gated_deltanet: $(cat "$tmp/out")"
else
    echo "no qwen35 in this llama.cpp, or no python3: gated_deltanet is not compared"
fi
# A changed bit of the weights is another number, and llama.cpp accepts it: only the comparison can see it
size=$(wc -c <"$tmp/dense.f32.gguf")
printf '\177' | dd of="$tmp/dense.f32.gguf" bs=1 seek=$((size - 100)) conv=notrunc 2>/dev/null
run 1 "$GGUF_LLAMA" "$libraries" compare "$tmp/dense.f32.gguf" "$tmp/dense.safetensors"
says out 'has other values'
finish
