# runs.sh - what the tests of runs share: small runs, the fault shim, and what makes two runs equal.
# Sourced after lib.sh; exits with 77 where the shim was not built.
shim=$PWD/tests/shim/.libs/faultfs.so
mock=$PWD/tests/mock/.libs/poison.so
if [ ! -f "$shim" ] || [ ! -f "$mock" ]; then
    echo "skip: no shim or no mock plugin (static build or sanitizers)"
    exit 77
fi
mkdir -p "$tmp/plugins/train" "$tmp/text" "$tmp/few"
cp "$mock" "$tmp/plugins/train/poison.so"
chmod 755 "$tmp/plugins" "$tmp/plugins/train"
chmod 644 "$tmp/plugins/train/poison.so"
# 30 documents, three of them with the '~' that makes the loss NaN; and a corpus of few batches
i=0
while [ $i -lt 30 ]; do
    awk -v n=$i 'BEGIN { for (k = 0; k < 2 + n % 5; k++) printf "line %d of %d says %d\n", k, n, k * (n + 3) % 17 }' >"$tmp/text/$i"
    i=$((i + 1))
done
for i in 3 12 25; do printf "a tilde ~ in %d\n" $i >"$tmp/text/$i"; done
awk 'BEGIN { for (k = 0; k < 9; k++) printf "few words %d\n", k * k }' >"$tmp/few/0"
printf 'held out words, 12 of them\n' >"$tmp/held"
cat >"$tmp/f32.ini" <<INI
[model]
hidden_size = 16
num_hidden_layers = 2
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
[data]
task = text
tokenizer = byte
[task]
train = text
heldout = held
[train]
optimizer = adamw
objective = next_token
batch_size = 3
micro_batch = 2
seq_len = 16
steps = 10
warmup_steps = 2
lr = 1e-2
checkpoint_every = 3
eval_every = 4
keep = 2
log_every = 1
[run]
dir = out
seed = 5
threads = 1
[plugins]
path = $tmp/plugins
INI
train() { "$CHIMERA" train "$tmp/$name.ini" run.dir="$tmp/$1" --resume run.threads="$2" >"$tmp/out" 2>"$tmp/err" </dev/null; }
lines() { sed -e 's/,"wall_s":[^,}]*//; s/,"tok_s":[^,}]*//; s/,"rss_mb":[^,}]*//' "$1/metrics.jsonl"; }
newest() { find "$1/ckpt" -mindepth 1 -maxdepth 1 | sort | tail -n 1; }
# equal WHAT: of the run $tmp/cut and the whole one
equal() {
    a=$(newest "$tmp/$name.whole") b=$(newest "$tmp/cut")
    for f in model.safetensors optimizer.safetensors; do
        if cmp -s "$a/$f" "$b/$f"; then ok; else no "$name, $1: other bits in $f of ${b##*/}, ${a##*/}"; fi
    done
    lines "$tmp/cut" >"$tmp/lines"
    if cmp -s "$tmp/$name.lines" "$tmp/lines"; then ok; else
        no "$name, $1: other metrics"
        diff "$tmp/$name.lines" "$tmp/lines" | head -n 4
    fi
    if cmp -s "$tmp/$name.whole/rollback.txt" "$tmp/cut/rollback.txt" || [ ! -e "$tmp/$name.whole/rollback.txt" ]; then ok
    else no "$name, $1: other rollbacks"; fi
    if find "$tmp/cut" -name '*.tmp' | grep -q .; then no "$name, $1: a .tmp stays"; else ok; fi
}
