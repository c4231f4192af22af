#!/bin/sh
# chimera import of checkpoints of other programs: what generate, eval and train do with them, and what is
# refused by name.
# Their logits are in tests/unit/test_import.c.
set -eu
. "$srcdir/tests/e2e/lib.sh"
command -v python3 >/dev/null 2>&1 || { echo "skipped: no python3, which makes the checkpoints"; exit 77; }
make_corpus
python3 -B "$srcdir/tests/checkpoints.py" gdn "$tmp/gdn"
python3 -B "$srcdir/tests/checkpoints.py" xlstm "$tmp/xlstm"
quiet() { python3 -B - "$@"; }

# ---- a model of 257 tokens, for the byte tokenizer: generate, eval, convert, and training on from these weights
sed 's/^T, V = .*/T, V = 2, 257/' "$srcdir/tests/checkpoints.py" >"$tmp/big.py"
python3 -B "$tmp/big.py" gdn "$tmp/big"
run 0 "$CHIMERA" import "$tmp/big" -o "$tmp/run" run.threads=1
says out '^layers.0.mixer.q_conv1d.weight +model.layers.0.attn.q_conv1d.weight \[16, 1, 4\] F32$'
run 0 "$CHIMERA" generate "$tmp/run" -q -p "line 1" -n 4
run 0 "$CHIMERA" inspect "$tmp/run"
says out 'lm_head +f32'
corpora="task.train=$corpus/train task.heldout=$corpus/heldout"
# shellcheck disable=SC2086 # two words
"$CHIMERA" eval "$tmp/run" $corpora -o json --limit 300 >"$tmp/before" 2>"$tmp/err" || no "eval: $(cat "$tmp/err")"
# shellcheck disable=SC2086
run 0 "$CHIMERA" train "$tmp/run/config.ini" --resume $corpora train.steps=4 train.batch_size=2 \
    train.seq_len=32 train.lr=3e-3
says err 'goes on from .*0000000000: step 0 of 4'
# shellcheck disable=SC2086
"$CHIMERA" eval "$tmp/run" $corpora -o json --limit 300 >"$tmp/after" 2>"$tmp/err" || no "eval: $(cat "$tmp/err")"
quiet "$tmp/before" "$tmp/after" <<'END' && ok || no "training on from imported weights does not lower the loss"
import json, re, sys
a, b = (float(re.search(r'"bits_per_byte": ?([0-9.]+)', open(p).read()).group(1)) for p in sys.argv[1:])
sys.exit(not b < a)
END
run 0 "$CHIMERA" export "$tmp/run" -o "$tmp/run.gguf"
says out '^lm_head.weight +257 x 24  f32 -> F32 '

# ---- the head goes with the layers, but not below int8; its own section, and the embedding of a tied model
head_is() {         # FOLDER INSTANCE QUANTIZER [OVERRIDE]...
    dir=$1 instance=$2 quantizer=$3
    shift 3
    rm -rf "$tmp/head"
    run 0 "$CHIMERA" import "$dir" -o "$tmp/head" "$@"
    run 0 "$CHIMERA" inspect "$tmp/head"
    says out "^  $instance +$quantizer "
}
python3 -B "$srcdir/tests/checkpoints.py" gdn_tied "$tmp/tied"
head_is "$tmp/big" lm_head int8 linear.quantizer=ternary
says out '^  embed +f32 '
head_is "$tmp/big" lm_head bf16 linear.quantizer=bf16
head_is "$tmp/big" lm_head f32 linear.quantizer=ternary linear.lm_head.quantizer=f32
head_is "$tmp/tied" 'embed \(and head\)' int8 linear.quantizer=int8
head_is "$tmp/tied" 'embed \(and head\)' f32
run 0 "$CHIMERA" convert "$tmp/run" -e lm_head=int8 --requantize -o "$tmp/head.b158"
says out '^lm_head +257 x 24  f32 -> int8 '

# ---- a config.yaml that is not read
cp -r "$tmp/xlstm" "$tmp/yaml"
rm "$tmp/yaml/config.json"
bad 3 'yaml has no config.json or config.yaml' "$CHIMERA" import "$tmp/yaml" -o "$tmp/x"
printf 'embedding_dim: 32\nnum_heads: 2\nvocab_size: 41\ncolour: red\n' >"$tmp/yaml/config.yaml"
bad 2 'config.yaml cannot be honoured: colour = "red": nobody knows this key; num_blocks is missing' "$CHIMERA" import "$tmp/yaml" -o "$tmp/x"
printf 'embedding_dim: 32\nslstm:\n  at: 3\n' >"$tmp/yaml/config.yaml"
bad 3 'config.yaml:3: it is nested, or a list: wanted are lines' "$CHIMERA" import "$tmp/yaml" -o "$tmp/x"
printf 'embedding_dim: 32\nnum_heads: 2\nvocab_size: 41\nnum_blocks: 2\n' >"$tmp/yaml/config.yaml"
rm "$tmp"/yaml/model*
bad 3 'has neither model.safetensors nor model_0.safetensors' "$CHIMERA" import "$tmp/yaml" -o "$tmp/x"

# ---- keys that cannot be honoured
key() {                                     # FILE KEY=JSON PATTERN
    cp -r "$tmp/$1" "$tmp/bad"
    quiet "$tmp/bad/config.json" "$2" <<'END'
import json, sys
path, (key, value) = sys.argv[1], sys.argv[2].split("=", 1)
c = json.load(open(path))
c[key] = json.loads(value)
json.dump(c, open(path, "w"))
END
    bad 2 "$3" "$CHIMERA" import "$tmp/bad" -o "$tmp/x"
    rm -r "$tmp/bad"
}
key gdn 'attn={"layers": [1], "num_heads": 2, "num_kv_heads": 1}' 'attn.num_kv_heads = 1: wanted is attn.num_heads = 2'
key gdn 'attn={"layers": [1], "num_heads": 2, "qkv_bias": true}' 'attn.qkv_bias = true: wanted is false\|null'
key gdn 'attn={"layers": [1], "num_heads": 2, "qk_norm": true}' 'attn.qk_norm = true: wanted is false\|null'
key gdn 'attn={"layers": [1], "num_heads": 2, "window": 3}' 'attn.window = 3: nobody knows this key'
key gdn 'attn={"layers": [2], "num_heads": 2}' 'attn.layers: wanted are numbers from 0 to 1'
key gdn 'attn={"num_heads": 2}' 'attn.layers: wanted is a list of layers'
key gdn 'attn={"layers": [1], "num_heads": 5}' 'attn.num_heads = 5: wanted is a number that divides hidden_size = 24'
key gdn 'attn=[1]' 'attn: wanted is null or an object'
key gdn 'norm_first=true' 'norm_first = true: wanted is false'
key gdn 'num_v_heads=3' 'num_v_heads = 3: wanted is a multiple of num_heads = 2'
key gdn 'expand_v=0.3' 'expand_v = 0.3 of 8 is no whole number'
key gdn 'new_thing=1' 'new_thing = 1: nobody knows this key \(--ignore KEY leaves one out\)$'
key gdn 'hidden_act="gelu"' 'hidden_act = "gelu": wanted is'
key gdn 'hidden_size="24"' 'hidden_size: wanted is a whole number from 1 to 2.24$'
key gdn 'model_type="mamba2"' 'model_type is mamba2'
key xlstm 'use_bias=true' 'use_bias = true: wanted is false'
key xlstm 'gate_soft_cap=null' 'gate_soft_cap = null'
key xlstm 'add_out_norm=false' 'add_out_norm = false'
key xlstm 'hidden_size=64' 'hidden_size = 64 and embedding_dim = 32'

# ---- tensors: of another shape, missing, unknown, in a file that is not there
cp -r "$tmp/gdn" "$tmp/bad"
sed -i 's/"intermediate_size": 40/"intermediate_size": 48/' "$tmp/bad/config.json"
bad 3 'model.safetensors: tensor model.layers.0.mlp.gate_proj.weight is \[40, 24\], wanted is \[48, 24\]' \
    "$CHIMERA" import "$tmp/bad" -o "$tmp/x"
sed -i 's/"intermediate_size": 48/"intermediate_size": 40/; s/"num_hidden_layers": 2/"num_hidden_layers": 3/' \
    "$tmp/bad/config.json"
bad 3 'has no tensor model.layers.2.attn_norm.weight' "$CHIMERA" import "$tmp/bad" -o "$tmp/x"
sed -i 's/"num_hidden_layers": 3/"num_hidden_layers": 1/' "$tmp/bad/config.json"
bad 3 'nobody knows what these tensors do.*model.layers.1.attn_norm.weight, .* and [0-9]+ more' \
    "$CHIMERA" import "$tmp/bad" -o "$tmp/x"
run 0 "$CHIMERA" import "$tmp/bad" -o "$tmp/cut" --ignore 'model.layers.1.*'
sed -i 's/"num_hidden_layers": 1/"num_hidden_layers": 2/' "$tmp/bad/config.json"
LC_ALL=C sed -i 's/\("model.layers.0.mlp.gate_proj.weight"[^]]*\[\)40\(, *\)24\]/\124\240]/' "$tmp/bad/model.safetensors"
bad 3 'tensor model.layers.0.mlp.gate_proj.weight is \[24, 40\], wanted is \[40, 24\]' "$CHIMERA" import "$tmp/bad" -o "$tmp/x"
rm "$tmp/bad/model.safetensors"
bad 3 'has neither model.safetensors' "$CHIMERA" import "$tmp/bad" -o "$tmp/x"
rm "$tmp/xlstm/model-00002-of-00002.safetensors"
bad 3 'model-00002-of-00002.safetensors, which is missing' "$CHIMERA" import "$tmp/xlstm" -o "$tmp/x"
head -c 900 "$tmp/gdn/model.safetensors" >"$tmp/bad/model.safetensors"
bad 3 'copied incompletely|promises' "$CHIMERA" import "$tmp/bad" -o "$tmp/x"
echo '{' >"$tmp/bad/config.json"
bad 3 'config.json' "$CHIMERA" import "$tmp/bad" -o "$tmp/x"
bad 2 'gdn brings its own' "$CHIMERA" import "$tmp/gdn" -o "$tmp/x" -c "$srcdir/conf/tiny.ini"
bad 2 'no such file' "$CHIMERA" import "$tmp/nothing" -o "$tmp/x"
bad 2 'is there already' "$CHIMERA" import "$tmp/gdn" -o "$tmp/run"
bad 3 'has no config.json' "$CHIMERA" import "$corpus" -o "$tmp/x"
[ -e "$tmp/x" ] && no "a refused import leaves a folder" || ok

# ---- whole or absent, wherever a signal comes; what SIGKILL leaves goes with the next import
shim=$PWD/tests/shim/.libs/faultfs.so
"$CHIMERA" convert "$tmp/run" -o "$tmp/small.b158" >"$tmp/out" 2>&1
"$CHIMERA" export "$tmp/small.b158" -o "$tmp/small.gguf" >"$tmp/out"
stopped() {                                 # SUBJECT OUT NAMES
    FAULT_COUNT=$tmp/calls LD_PRELOAD=$shim "$CHIMERA" import "$1" -o "$tmp/first.$2" >"$tmp/out"
    calls=$(cat "$tmp/calls") i=1 early=0
    [ "$calls" -gt 4 ] && ok || no "import of $1: $calls file operations"
    while [ $i -le "$calls" ]; do
        rc=0
        FAULT=call:$i:signal:15 LD_PRELOAD=$shim "$CHIMERA" import "$1" -o "$tmp/it.$2" >"$tmp/out" 2>"$tmp/err" || rc=$?
        case $rc in
        143) early=$((early + 1))
             [ -z "$(find "$tmp" -maxdepth 1 -name 'it.*')" ] && ok || no "SIGTERM at operation $i leaves $(ls -d "$tmp"/it.*)" ;;
        0) [ -e "$tmp/it.$2" ] && [ ! -e "$tmp/it.$2.tmp" ] && ok || no "operation $i: not whole" ;;
        *) no "SIGTERM at operation $i: exit code $rc: $(cat "$tmp/err")" ;;
        esac
        rm -rf "$tmp/it.$2"
        FAULT=call:$i:kill LD_PRELOAD=$shim "$CHIMERA" import "$1" -o "$tmp/it.$2" >"$tmp/out" 2>&1 || :
        [ -e "$tmp/it.$2" ] || run 0 "$CHIMERA" import "$1" -o "$tmp/it.$2"
        [ ! -e "$tmp/it.$2.tmp" ] && ok || no "killed at operation $i: the next import leaves $tmp/it.$2.tmp"
        rm -rf "$tmp/it.$2"
        i=$((i + $3))
    done
    [ $early -ge 1 ] && ok || no "import of $1: $early of $calls signals came in time"
}
if [ -f "$shim" ]; then
    stopped "$tmp/gdn" run 9
    stopped "$tmp/small.gguf" b158 1
fi
mkdir "$tmp/it.run.tmp"
echo mine >"$tmp/it.run.tmp/notes"
bad 2 'it.run.tmp is in the way' "$CHIMERA" import "$tmp/gdn" -o "$tmp/it.run"
[ -s "$tmp/it.run.tmp/notes" ] && ok || no "a folder of somebody else's is gone"

# ---- a file that says nothing of its configuration
python3 -B - "$tmp/run/ckpt/0000000004/model.safetensors" "$tmp/plain.safetensors" <<'END'
import shutil, sys
shutil.copy(*sys.argv[1:])
END
bad 2 'plain.safetensors says nothing of its configuration: --config' \
    "$CHIMERA" import "$tmp/plain.safetensors" -o "$tmp/x"
run 0 "$CHIMERA" import "$tmp/plain.safetensors" -c "$tmp/run/config.ini" -o "$tmp/plain"
finish
