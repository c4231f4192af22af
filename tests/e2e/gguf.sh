#!/bin/sh
# chimera export and import of GGUF and of dequantised safetensors: what comes back is the packed model that
# went out, to the last byte, whichever types carried it; a second reader, written from the public description,
# finds the same numbers; damaged and foreign files are refused.
set -eu
. "$srcdir/tests/e2e/lib.sh"
make_corpus
train() {
    dir=$1
    shift
    run 0 "$CHIMERA" train "$srcdir/conf/tiny.ini" "task.train=$corpus/train" "task.heldout=$corpus/heldout" \
        train.steps=2 train.warmup_steps=1 "run.dir=$dir" run.threads=1 train.batch_size=1 "$@"
}
same() {
    if cmp -s "$1" "$2"; then ok; else no "$3"; fi
}

# ---- groups of 256 fit the blocks, but rows of 64 do not; an int8 embedding has scales that floats alone do not tell
train "$tmp/run" model.hidden_size=256 layer.GD.head_dim=32 layer.MLP.intermediate_size=256 linear.group_size=256 \
    linear.embed.quantizer=int8 model.num_hidden_layers=1
run 0 "$CHIMERA" convert "$tmp/run" -o "$tmp/m.b158"
for as in best tq1_0 tq2_0 f16 f32; do
    flag=$as
    if [ $as = best ]; then run 0 "$CHIMERA" export "$tmp/m.b158" -o "$tmp/$as.gguf"
    else run 0 "$CHIMERA" export "$tmp/m.b158" -o "$tmp/$as.gguf" --as $as; fi
    case $as in best) flag=tq2_0;; esac
    want=$(echo $flag | tr a-z A-Z)
    says out "^layers.0.mixer.q_proj.weight +64 x 256  ternary2 -> $want  [0-9]+ bytes  exact$"
    [ $as = f32 ] || says out '^layers.0.mixer.o_proj.weight +256 x 64  ternary2 -> F16  32768 bytes  exact'
    [ $as = f32 ] || says out '^embed.weight .*int8 -> F32 .*exact, scales beside it \(values that are no halves\)'
    run 0 "$CHIMERA" import "$tmp/$as.gguf" -o "$tmp/back.b158"
    same "$tmp/m.b158" "$tmp/back.b158" "$as: another model comes back"
    rm "$tmp/back.b158"
done
run 0 "$CHIMERA" export "$tmp/m.b158" -o "$tmp/f.safetensors"
run 0 "$CHIMERA" import "$tmp/f.safetensors" -o "$tmp/back.b158"
same "$tmp/m.b158" "$tmp/back.b158" "safetensors: another model comes back"
rm "$tmp/back.b158"

# ---- a run goes out as what it computes with, and nothing is left behind
run 0 "$CHIMERA" export "$tmp/run" -o "$tmp/run.gguf"
says err 'run.gguf is written: 7 matrices as TQ2_0, 1 as F16, 1 as F32$'
run 0 "$CHIMERA" import "$tmp/run.gguf" -o "$tmp/back.b158"
"$CHIMERA" eval "$tmp/run" -o json --limit 500 >"$tmp/want"
"$CHIMERA" eval "$tmp/back.b158" -o json --limit 500 >"$tmp/got"
same "$tmp/want" "$tmp/got" "the model that came back says something else"
[ -z "$(find "$tmp" -name '*.tmp*')" ] && ok || no "something is left: $(find "$tmp" -name '*.tmp*')"

# ---- groups of 512 in rows of 384 and 640, the last one shorter: the same text from the run, from its packed model by any
# kernel, and from what comes back
train "$tmp/g512" model.hidden_size=384 layer.GD.head_dim=32 layer.MLP.intermediate_size=640 linear.group_size=512 \
    model.num_hidden_layers=1
run 0 "$CHIMERA" convert "$tmp/g512" -o "$tmp/g512.b158"
run 0 "$CHIMERA" export "$tmp/g512.b158" -o "$tmp/g512.gguf"
run 0 "$CHIMERA" import "$tmp/g512.gguf" -o "$tmp/g512-back.b158"
same "$tmp/g512.b158" "$tmp/g512-back.b158" "groups of 512: another model comes back"
"$CHIMERA" generate "$tmp/g512" -p "line 3 of" -n 40 >"$tmp/want" 2>"$tmp/err"
for with in backend.use=auto backend.use=portable run.threads=2; do
    "$CHIMERA" generate "$tmp/g512-back.b158" -p "line 3 of" -n 40 $with >"$tmp/got" 2>"$tmp/err"
    same "$tmp/want" "$tmp/got" "groups of 512, $with: another text"
done

# ---- a model with experts lies in two files
run 0 "$CHIMERA" init "$srcdir/tests/data/moe.ini" -o "$tmp/moe"
run 0 "$CHIMERA" export "$tmp/moe" -o "$tmp/moe.gguf"
says out '^layers.0.ffn.experts.2.up_proj.weight 32 x 64  ternary2 -> F16 '
mkdir "$tmp/moe2"
run 0 "$CHIMERA" import "$tmp/moe.gguf" -o "$tmp/moe2/model.b158"
same "$tmp/moe/model.b158" "$tmp/moe2/model.b158" "another model with experts comes back"
same "$tmp/moe/model_experts.b158" "$tmp/moe2/model_experts.b158" "other experts come back"

# ---- attention and swiglu under the names of a llama
cat >"$tmp/llama.ini" <<'END'
[model]
hidden_size = 256
num_hidden_layers = 1
vocab_size = 260
rms_norm_eps = 0.25
tie_word_embeddings = no
layer_pattern = AT
ffn_pattern = MLP
[layer.AT]
use = attention
num_heads = 2
head_dim = 32
rope_theta = 500
max_context = 100
[layer.MLP]
use = swiglu
intermediate_size = 96
[linear]
quantizer = ternary
group_size = 256
END
run 0 "$CHIMERA" init "$tmp/llama.ini" -o "$tmp/llama"
run 0 "$CHIMERA" export "$tmp/llama" -o "$tmp/llama.safetensors"
run 0 "$CHIMERA" export "$tmp/llama" -o "$tmp/llama.gguf" --architecture llama
says out '^layers.0.mixer.q_proj.weight +64 x 256  ternary2 -> TQ2_0 '
bad 3 'llama.gguf is a model of architecture llama and lacks' "$CHIMERA" import "$tmp/llama.gguf" -o "$tmp/x"
llama_refuses() { bad 2 "architecture llama: .*$1" "$CHIMERA" export "$tmp/$2" -o "$tmp/x.gguf" --architecture llama; }
llama_refuses 'same attention and the same swiglu' m.b158
for change in layer.AT.window=8 model.logit_soft_cap=30 linear.extra_rmsnorm=yes linear.adapter=hgf; do
    key=${change##*.}
    run 0 "$CHIMERA" init "$tmp/llama.ini" -o "$tmp/l.$key" "$change"
    llama_refuses "has no ${key%=*}" "l.$key"
done
bad 2 'architecture mamba: wanted is llama' "$CHIMERA" export "$tmp/llama" -o "$tmp/x.gguf" --architecture mamba
bad 2 'architecture llama: wanted .*NAME.gguf' "$CHIMERA" export "$tmp/llama" -o "$tmp/x.safetensors" --architecture llama

# ---- the second reader
if command -v python3 >/dev/null 2>&1; then
    for as in best tq1_0 f16 f32; do
        run 0 python3 -B "$srcdir/tests/gguf_reader.py" "$tmp/$as.gguf" "$tmp/m.b158" "$tmp/f.safetensors"
        says out '^general.architecture = chimera$'
        says out ' 0 wrong$'
    done
    run 0 python3 -B "$srcdir/tests/gguf_reader.py" --llama "$tmp/llama.gguf" "$tmp/llama.safetensors"
    says out '^general.architecture = llama$'
    says out '^vocab_size=260 context_length=100 embedding_length=256 block_count=1 feed_forward_length=96 '
    says out ' attention.head_count=2 attention.head_count_kv=2 attention.key_length=32 attention.value_length=32 '
    says out ' rope.dimension_count=32 rope.freq_base=500 attention.layer_norm_rms_epsilon=0.25$'
    says out '^blk.0.ffn_down.weight F16 256x96 '
    says out '^12 tensors, 0 wrong$'
    # Matrices of more rows than are turned over at once, 33 heads of 64: no head is cut
    run 0 "$CHIMERA" init "$tmp/llama.ini" -o "$tmp/wide" model.hidden_size=2112 layer.AT.num_heads=33 layer.AT.head_dim=64 \
        model.tie_word_embeddings=yes linear.group_size=64
    run 0 "$CHIMERA" export "$tmp/wide" -o "$tmp/ours.gguf" --as f16
    run 0 "$CHIMERA" export "$tmp/wide" -o "$tmp/theirs.gguf" --as f16 --architecture llama
    run 0 python3 -B - "$srcdir/tests" "$tmp/ours.gguf" "$tmp/theirs.gguf" <<'END'
import sys
sys.path.insert(0, sys.argv[1])
from gguf_reader import Gguf
ours, theirs = (Gguf(p).tensors for p in sys.argv[2:])
for name in "qkv":
    a, b = ours["layers.0.mixer.%s_proj.weight" % name], theirs["blk.0.attn_%s.weight" % name]
    assert a[:2] == b[:2] == (1, [2112, 2112]), (a[:2], b[:2])
    for r in range(2112):
        i = r % 64
        at = r if name == "v" else r - i + i // 2 + i % 2 * 32
        assert b[2][4224 * r:4224 * r + 4224] == a[2][4224 * at:4224 * at + 4224], (name, r)
END
    rm -r "$tmp/wide" "$tmp"/ours.gguf "$tmp"/theirs.gguf
else
    echo "no python3: GGUF files are not read a second time"
fi

# ---- damage
size=$(wc -c <"$tmp/best.gguf")
flip() {
    cp "$tmp/best.gguf" "$tmp/bad.gguf"
    byte=$(od -An -tu1 -j "$1" -N 1 "$tmp/bad.gguf")
    printf '%b' "\\0$(printf '%o' $((byte ^ 16)))" | dd of="$tmp/bad.gguf" bs=1 seek="$1" conv=notrunc 2>/dev/null
    bad 3 "$2" "$CHIMERA" import "$tmp/bad.gguf" -o "$tmp/x"
}
flip 0 'too short|header length|no safetensors|promises'
flip 4 'is GGUF version 19, this program reads 3'
flip 12 'promises .* tensors'
flip 300 'header is damaged|key|type'
flip $((size / 2)) 'is damaged'
head -c $((size - 64)) "$tmp/best.gguf" >"$tmp/bad.gguf"
bad 3 'copied incompletely' "$CHIMERA" import "$tmp/bad.gguf" -o "$tmp/x"
cp "$tmp/best.gguf" "$tmp/bad.gguf"; echo >>"$tmp/bad.gguf"
bad 3 'something was appended' "$CHIMERA" import "$tmp/bad.gguf" -o "$tmp/x"
[ -e "$tmp/x" ] && no "a refused import leaves a file" || ok

# ---- usage
bad 2 'wanted is NAME.gguf or NAME.safetensors' "$CHIMERA" export "$tmp/m.b158" -o "$tmp/x.bin"
bad 2 '.-as q4: wanted is' "$CHIMERA" export "$tmp/m.b158" -o "$tmp/x.gguf" --as q4
bad 2 'types are for GGUF' "$CHIMERA" export "$tmp/m.b158" -o "$tmp/x.safetensors" --as f16
bad 2 'is there already' "$CHIMERA" export "$tmp/m.b158" -o "$tmp/best.gguf"
bad 2 'is there already' "$CHIMERA" import "$tmp/best.gguf" -o "$tmp/m.b158"
bad 2 '-o .* is missing' "$CHIMERA" export "$tmp/m.b158"
bad 1 'cannot create .*/nodir/x.gguf: No such' "$CHIMERA" export "$tmp/m.b158" -o "$tmp/nodir/x.gguf"
bad 2 'is a GGUF file.*chimera import' "$CHIMERA" generate "$tmp/best.gguf" -p x
run 0 "$CHIMERA" export "$tmp/m.b158" -o "$tmp/floats.safetensors"
bad 3 'chimera.floats.*chimera import' "$CHIMERA" eval "$tmp/floats.safetensors"
bad 3 'has format "chimera.packed [0-9]+", this program imports' "$CHIMERA" import "$tmp/m.b158" -o "$tmp/x"
bad 2 'best.gguf brings its own' "$CHIMERA" import "$tmp/best.gguf" -o "$tmp/x" -c "$srcdir/conf/tiny.ini"
bad 2 'no such file' "$CHIMERA" export "$tmp/nothing" -o "$tmp/x.gguf"
finish
