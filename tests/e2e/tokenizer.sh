#!/bin/sh
# chimera tokenizer: a vocabulary from text, ids and back, and a model that reads and writes its tokens with bits
# per byte of bytes.
set -eu
. "$srcdir/tests/e2e/lib.sh"
T=$tmp
data=$srcdir/tests/data/tokenizers
make_corpus
tok() { run 0 "$CHIMERA" tokenizer "$@"; }

# ---- training: the same file again, whatever the threads; what is wanted and no more
tok train "$corpus/train" "$corpus/heldout" -n 300 -o "$T/a.ranks"
says err '299 tokens and the end of a document'
tok train "$corpus/train" "$corpus/heldout" -n 300 -o "$T/b.ranks" run.threads=3
cmp "$T/a.ranks" "$T/b.ranks" && ok || no "another vocabulary from the same text"
[ "$(wc -l <"$T/a.ranks")" -eq 299 ] && ok || no "$(wc -l <"$T/a.ranks") ranks, wanted are 299"
tok train "$corpus/heldout" -n 100k -o "$T/c.ranks"
says err 'no other pair is there 2 times'
bad 2 'must be 257' "$CHIMERA" tokenizer train "$corpus/train" -n 256 -o "$T/x"
# A vocabulary that models may use is not written over; a name that cannot be written is refused at once.
cp "$T/a.ranks" "$T/kept"
bad 2 'a\.ranks is there already' "$CHIMERA" tokenizer train "$corpus/heldout" -n 300 -o "$T/a.ranks"
cmp "$T/a.ranks" "$T/kept" && ok || no "a refused training changed the vocabulary"
bad 1 'nodir/x: No such' "$CHIMERA" tokenizer train "$T/nothing" -n 300 -o "$T/nodir/x"
bad 2 '-o FILE is missing' "$CHIMERA" tokenizer train "$corpus/train"
bad 2 'gpt2' "$CHIMERA" tokenizer train "$corpus/train" -o "$T/x" --split gpt3
bad 3 'nothing: there is no such file' "$CHIMERA" tokenizer train "$T/nothing" -o "$T/x"
: >"$T/empty"
mkdir "$T/no_files"
bad 3 'no text' "$CHIMERA" tokenizer train "$T/empty" -o "$T/x"
tok train "$corpus/train" "$corpus/heldout" -n 300 -o /dev/stdout
cmp "$T/out" "$T/a.ranks" && ok || no "a vocabulary by way of standard output"
# What is no file, or none for us, as text, ids and vocabulary
bad 3 'corpus: it is a folder' "$CHIMERA" tokenizer encode byte "$corpus"
bad 3 'corpus: it is a folder' "$CHIMERA" tokenizer decode byte "$corpus"
bad 2 'is a folder without config.ini' "$CHIMERA" tokenizer encode "$corpus"
bad 3 'no_files: the folder has no files' "$CHIMERA" tokenizer encode bpe tokenizer.file="$T/no_files" "$T/empty"
if [ "$(id -u)" != 0 ]; then
    cp "$T/a.ranks" "$T/locked"
    chmod 000 "$T/locked"
    bad 3 'locked: Permission' "$CHIMERA" tokenizer encode "$T/locked"
    bad 3 'locked: Permission' "$CHIMERA" tokenizer encode byte "$T/locked"
fi

# ---- there and back: any bytes
head -c 3000 "$CHIMERA" >"$T/bytes"
for with in "$T/a.ranks" "$data/small.json" byte bpe; do
    tok encode "$with" "$T/bytes" -o "$T/ids"
    tok decode "$with" "$T/ids" -o "$T/back"
    cmp "$T/bytes" "$T/back" && ok || no "$with: other bytes came back"
done
printf '"a b"\n"\\u00e9"\n' >"$T/lines"
tok encode byte "$T/lines" --json
[ "$(cat "$T/out")" = "97 32 98
195 169" ] && ok || no "ids of lines: $(cat "$T/out")"
bad 3 'line 1' "$CHIMERA" tokenizer encode byte "$corpus/train/0.txt" --json
echo '1 2 257' >"$T/ids"
bad 3 'id 257 is outside' "$CHIMERA" tokenizer decode byte "$T/ids"
echo '1 2 x' >"$T/ids"
bad 3 'no number' "$CHIMERA" tokenizer decode byte "$T/ids"
bad 2 'did you mean encode' "$CHIMERA" tokenizer encod byte
bad 2 'no such file' "$CHIMERA" tokenizer encode "$T/none.json" "$T/lines"
tok encode "$T/a.ranks" "$corpus/heldout/9.txt" --figures
says out 'bytes a token, .* MB/s'

# ---- o200k: ids of its own ranks where they are; without them it says how to get them
bad 2 'quickstart o200k' "$CHIMERA" tokenizer encode o200k "$T/lines"
bad 3 'quickstart/o200k_base' "$CHIMERA" tokenizer encode "$srcdir/conf/chimera-5.1.ini" "$T/lines" tokenizer.file="$T/quickstart/o200k_base"
ranks=$srcdir/.quickstart/o200k_base.tiktoken
if [ -f "$ranks" ]; then
    printf 'Hello, world! It'"'"'s \344\275\240\345\245\275<|pad|>\n' >"$T/text"
    tok encode o200k tokenizer.file="$ranks" "$T/text"
    [ "$(cat "$T/out")" = "13225 11 2375 0 7744 220 177519 27 91 16730 91 523" ] && ok || no "ids of o200k: $(cat "$T/out")"
    tok encode o200k tokenizer.file="$ranks" tokenizer.special=yes "$T/text"
    [ "$(cat "$T/out")" = "13225 11 2375 0 7744 220 177519 200058 198" ] && ok || no "special ids of o200k: $(cat "$T/out")"
else
    echo "no $ranks: the ids of o200k were not compared"
fi

# ---- a model: each held-out byte is counted once, though tokens have several
cat >"$T/tiny.ini" <<I
[model]
hidden_size = 16
num_hidden_layers = 1
vocab_size = 300
layer_pattern = GD
ffn_pattern = MLP
[layer.GD]
use = gated_deltanet
num_heads = 1
head_dim = 16
[layer.MLP]
use = swiglu
intermediate_size = 32
[train]
steps = 3
batch_size = 2
seq_len = 32
lr = 1e-3
optimizer = adamw
objective = next_token
[data]
task = text
tokenizer = bpe
[tokenizer]
file = $T/a.ranks
[task]
train = $corpus/train
heldout = $corpus/heldout
[run]
dir = $T/run
threads = 1
I
run 0 "$CHIMERA" train "$T/tiny.ini"
run 0 "$CHIMERA" eval "$T/run"
n=$(wc -c <"$corpus/heldout/9.txt")
says out "(^|[^0-9])$n([^0-9]|\$)"
run 0 "$CHIMERA" generate "$T/run" -p "line 1" -n 40 --ignore-end -q
iconv -f UTF-8 -t UTF-8 "$T/out" >/dev/null && ok || no "what was generated is no UTF-8"
bad 2 'vocab_size' "$CHIMERA" train "$T/tiny.ini" model.vocab_size=299 run.dir="$T/small"
# Another vocabulary of as many tokens: the ids mean nothing
tok train "$corpus/heldout" -n 300 --least 1 -o "$T/other.ranks"
run 0 "$CHIMERA" convert "$T/run" -o "$T/run.b158"
run 0 "$CHIMERA" export "$T/run" -o "$T/run.safetensors"
run 0 "$CHIMERA" import "$T/run.safetensors" -o "$T/imported"
mv "$T/a.ranks" "$T/first.ranks"
cp "$T/other.ranks" "$T/a.ranks"
for of in run run/ckpt/0000000003 run.b158 imported; do
    which="$T/$of was trained with the vocabulary [0-9a-f]{16}, tokenizer bpe of .*a.ranks is [0-9a-f]{16}"
    bad 3 "$which" "$CHIMERA" eval "$T/$of"
    bad 3 "$which" "$CHIMERA" generate "$T/$of" -p "line 1" -n 4
done
run 0 "$CHIMERA" generate "$T/run" --ids "5 6" -n 4
bad 3 'trained with the vocabulary' "$CHIMERA" train "$T/tiny.ini" --resume train.steps=5
# ... the same tokens by another name are the same, and an old checkpoint says nothing
run 0 "$CHIMERA" eval "$T/run.b158" tokenizer.file="$T/first.ranks"
cp -r "$T/run" "$T/old"
M=$T/old/ckpt/0000000003/MANIFEST.json
sed -i '/"vocabulary"/d' "$M"
"$CHIMERA" eval "$T/old" 2>&1 | sed -n 's/.*gives XXH3 \([0-9a-f]*\), it says \([0-9a-f]*\)$/s,\2,\1,/p' >"$T/seal"
sed -i -f "$T/seal" "$M"
run 0 "$CHIMERA" eval "$T/old"
mv "$T/first.ranks" "$T/a.ranks"
run 0 "$CHIMERA" train "$T/tiny.ini" --resume train.steps=5
# ... but the text is the same, and what reports compare
run 0 "$CHIMERA" train "$T/tiny.ini" tokenizer.file="$T/other.ranks" run.dir="$T/run2"
[ "$(grep '"data_hash"' "$T/run/env.json")" = "$(grep '"data_hash"' "$T/run2/env.json")" ] && ok || no "another text by another vocabulary"
rm "$T/a.ranks"
bad 3 'a.ranks' "$CHIMERA" generate "$T/run" -p "line 1" -n 4
finish
