#!/bin/sh
# chimera convert: a packed model says what its run says, in any encoding that holds the numbers; what does not is
# refused by name; damaged files are refused before anything runs.
set -eu
. "$srcdir/tests/e2e/lib.sh"
make_corpus
r=$tmp/run
train() {
    dir=$1
    shift
    run 0 "$CHIMERA" train "$srcdir/conf/tiny.ini" "task.train=$corpus/train" "task.heldout=$corpus/heldout" train.steps=8 \
        train.warmup_steps=2 "run.dir=$dir" run.threads=1 "$@"
}
# Loss and text of a run or a packed model
words() {
    "$CHIMERA" eval "$1" -o json --limit 2000 && "$CHIMERA" generate "$1" -q --ignore-end -p "line 1" -n 40 run.threads="${2:-1}"
}
same() {
    if cmp -s "$1" "$2"; then ok; else no "$3"; fi
}

train "$r"
words "$r" >"$tmp/want" 2>"$tmp/err" || no "the run itself: $(cat "$tmp/err")"

# ---- a packed model says what the run says, also when the run is gone
run 0 "$CHIMERA" convert "$r"
says out '^layers.1.ffn.down_proj +32 x 64  ternary2 -> ternary2  640 bytes  exact$'
run 0 "$CHIMERA" convert "$r/ckpt/0000000008" -e tl2 -o "$tmp/tl2.b158"
says out '^embed +257 x 32  f32 -> f32 '
says out '^layers.0.mixer.q_proj +32 x 32  ternary2 -> tl2  512 bytes  exact$'
words "$r/ckpt/0000000008" >"$tmp/got" 2>"$tmp/err" || no "one checkpoint: $(cat "$tmp/err")"
same "$tmp/want" "$tmp/got" "one checkpoint says something else than its run"
mv "$r" "$tmp/away"
for f in "$r.b158" "$tmp/tl2.b158"; do
    for threads in 1 2 3; do
        words "$f" $threads >"$tmp/got" 2>"$tmp/err" || no "$f: $(cat "$tmp/err")"
        same "$tmp/want" "$tmp/got" "$f with $threads threads says something else"
    done
done
mv "$tmp/away" "$r"
run 0 "$CHIMERA" convert "$tmp/tl2.b158" -e int8 -o "$tmp/int8.b158"
words "$tmp/int8.b158" >"$tmp/got"
same "$tmp/want" "$tmp/got" "int8 says something else"
run 0 "$CHIMERA" convert "$tmp/int8.b158" -e tl2 -o "$tmp/again.b158"
same "$tmp/tl2.b158" "$tmp/again.b158" "tl2 by way of int8 is another file"
[ -z "$(find "$tmp" -name '*.tmp')" ] && ok || no "something is left: $(find "$tmp" -name '*.tmp')"

run 0 "$CHIMERA" kernels "$tmp/tl2.b158"
says out '^  tl2 +32x32 '
run 0 "$CHIMERA" config "$tmp/tl2.b158" layer.GD.num_heads
says out '^num_heads += 2 .*tl2.b158:[0-9]+'
run 0 "$CHIMERA" bench "$tmp/tl2.b158" --profile --steps 2
says out 'prefill: .* 2 steps'
says out '^  layers.1.mixer +forward'
run 0 "$CHIMERA" inspect "$tmp/tl2.b158"
says out 'packed model +.*tl2.b158'
says out 'layers.0.mixer +gated_deltanet '

# ---- a model chooses no file of this machine to run: its own word on plugins counts nothing, the user's does
umask 022
mkdir "$tmp/strange"
cp "$builddir/tests/mock/.libs/trace_constructor.so" "$tmp/strange"
so=$tmp/strange/trace_constructor.so
run 0 "$CHIMERA" convert "$r" -o "$tmp/armed.b158" plugins.load="$so" plugins.path="$tmp/strange"
run 0 "$CHIMERA" export "$tmp/armed.b158" -o "$tmp/armed.gguf" plugins.load="$so"
grep -aq "load = $so" "$tmp/armed.b158" && grep -aq "load = $so" "$tmp/armed.gguf" && ok || no "the test's models name no plugin"
export CHIMERA_MOCK_TRACE="$tmp/trace"
for verb in inspect "config" "generate -n 2" "convert -o $tmp/armed2.b158" "export -o $tmp/armed2.gguf"; do
    # shellcheck disable=SC2086
    run 0 "$CHIMERA" ${verb%% *} "$tmp/armed.b158" $(expr "$verb" : '[a-z]* \(.*\)')
    says err "warning: .*armed.b158 names plugins of its own \(path = .*strange, load = .*\), which are not loaded: .*plugins.load="
done
run 0 "$CHIMERA" import "$tmp/armed.gguf" -o "$tmp/armed3.b158"
[ -e "$tmp/trace" ] && no "a model had a plugin of its choice loaded" || ok
run 0 "$CHIMERA" inspect "$tmp/armed.b158" plugins.load="$so"
if [ -s "$tmp/trace" ] && ! grep -q warning "$tmp/err"; then ok; else no "the user's own word on plugins counts nothing, or is doubted"; fi
rm -f "$tmp/trace"
run 0 "$CHIMERA" export "$r" -o "$tmp/mine.gguf" plugins.load="$so"
if [ -s "$tmp/trace" ] && ! grep -q warning "$tmp/err"; then ok; else no "a run's own plugins are doubted when it is exported"; fi
unset CHIMERA_MOCK_TRACE

# ---- the masters lie about nothing: training by the kernel of another encoding gives the same losses
train "$tmp/run2" linear.encoding=tl2
"$CHIMERA" eval "$tmp/run2" -o json --limit 2000 >"$tmp/got"
head -n 1 "$tmp/want" >"$tmp/want1"
same "$tmp/want1" "$tmp/got" "training in tl2 ends elsewhere"

# ---- refusals, by name
bad 2 'layers\.0\.mixer\.q_proj: found 32 x 32 ternary weights in groups of 128; tq2_0 has no form' "$CHIMERA" convert "$r" -e tq2_0 -o "$tmp/x"
bad 2 'layers\.0\.mixer\.q_proj: found ternary weights; f32 holds f32 ones' "$CHIMERA" convert "$r" -e f32 -o "$tmp/x"
bad 2 'layers\.0\.mixer\.q_proj: .*extra_rmsnorm' "$CHIMERA" convert "$r" -e f32 --requantize -o "$tmp/x"
bad 2 'embed: found f32 weights that bf16 does not hold exactly; --requantize' "$CHIMERA" convert "$r" -e embed=bf16 -o "$tmp/x"
bad 4 'no encoding is called .tl3.*did you mean tl2' "$CHIMERA" convert "$r" -e tl3 -o "$tmp/x"
bad 2 'no weights of this model match' "$CHIMERA" convert "$r" -e 'layers.7.*=tl2' -o "$tmp/x"
bad 2 'run.b158 is there already' "$CHIMERA" convert "$r"
bad 2 'is there already' "$CHIMERA" convert "$tmp/tl2.b158" -e ternary2
bad 2 'no such file or folder' "$CHIMERA" convert "$tmp/nothing"
bad 2 'linear.encoding=tl2: the weights of a packed model' "$CHIMERA" eval "$r.b158" linear.encoding=tl2
bad 2 'is a packed model' "$CHIMERA" train "$r.b158"
bad 2 'needs a value' "$CHIMERA" convert "$r" -e
mkdir "$tmp/empty" "$tmp/empty/ckpt"
cp "$r/config.ini" "$tmp/empty"
bad 3 'has no checkpoint yet' "$CHIMERA" convert "$tmp/empty" -o "$tmp/x"
bad 1 'cannot create .*Not a directory|No such file' "$CHIMERA" convert "$r" -o "$tmp/nowhere/x"
bad 2 "nowhere/': must be a file's name" "$CHIMERA" convert "$r" -o "$tmp/nowhere/"
bad 2 'nowhere.b158: there is no such file' "$CHIMERA" inspect nowhere.b158
[ -e "$tmp/x" ] && no "a refused conversion leaves a file" || ok

# ---- training and running refuse weights that the encoding does not hold
bad 2 'layers.0.mixer.q_proj: encoding tq2_0 cannot hold 32 x 32' "$CHIMERA" train "$srcdir/conf/tiny.ini" "task.train=$corpus/train" \
    "task.heldout=$corpus/heldout" train.steps=2 "run.dir=$tmp/run3" linear.encoding=tq2_0
bad 2 'layers.0.mixer.q_proj: encoding tq2_0 holds only a part of the ternary weights' "$CHIMERA" train "$srcdir/conf/tiny.ini" \
    "task.train=$corpus/train" "task.heldout=$corpus/heldout" train.steps=2 "run.dir=$tmp/run4" linear.encoding=tq2_0 \
    model.hidden_size=256 layer.GD.head_dim=128 layer.MLP.intermediate_size=256

# ---- a loss, asked for and told
run 0 "$CHIMERA" convert "$r" -e embed=bf16 --requantize -o "$tmp/bf16.b158"
says out '^embed +257 x 32  f32 -> bf16  17408 bytes  error [1-9]\.[0-9]*e-03$'
run 0 "$CHIMERA" eval "$tmp/bf16.b158" --limit 2000

# ---- damage: exit code 3 and one line, from eval, generate and convert
size=$(wc -c <"$tmp/tl2.b158")
damaged() {
    for verb in eval generate inspect; do bad 3 "$1" "$CHIMERA" $verb "$tmp/bad.b158"; done
    bad 3 "$1" "$CHIMERA" convert "$tmp/bad.b158" -o "$tmp/x"
}
flip() {
    cp "$tmp/tl2.b158" "$tmp/bad.b158"
    byte=$(od -An -tu1 -j "$1" -N 1 "$tmp/bad.b158")
    printf '%b' "\\0$(printf '%o' $((byte ^ 16)))" | dd of="$tmp/bad.b158" bs=1 seek="$1" conv=notrunc 2>/dev/null
}
flip 0; damaged 'header|copied incompletely'
flip 8; damaged 'not with '
flip 60; damaged 'its header is damaged|no packed model'
flip 5000; damaged 'its header is damaged'
flip $((size - 9000)); damaged 'is damaged'
flip $((size - 60)); damaged 'tensor .* is damaged|not all zeros'
head -c 5 "$tmp/tl2.b158" >"$tmp/bad.b158"; damaged 'too short'
head -c 4000 "$tmp/tl2.b158" >"$tmp/bad.b158"; damaged 'copied incompletely'
head -c $((size - 1)) "$tmp/tl2.b158" >"$tmp/bad.b158"; damaged 'copied incompletely'
cp "$tmp/tl2.b158" "$tmp/bad.b158"; echo >>"$tmp/bad.b158"; damaged 'something was appended'
: >"$tmp/bad.b158"; damaged 'too short'
cp "$r/ckpt/0000000008/model.safetensors" "$tmp/bad.b158"; damaged 'no packed model'
cp "$r/ckpt/0000000008/model.safetensors" "$tmp/bad"
bad 3 'no packed model' "$CHIMERA" eval "$tmp/bad"

cp -r "$r/ckpt/0000000008" "$tmp/masters"
printf '\125\125' | dd of="$tmp/masters/model.safetensors" bs=1 seek=$(($(wc -c <"$tmp/masters/model.safetensors") - 2)) conv=notrunc 2>/dev/null
bad 3 'masters.*model.safetensors' "$CHIMERA" convert "$tmp/masters" -o "$tmp/x"
[ -e "$tmp/x" ] && no "a damaged checkpoint was converted" || ok

# ---- experts in a second file, which belongs to the first
sed -e 's/= *swiglu/= moe/' -e 's/^intermediate_size.*/moe_intermediate_size = 32/' -e "s#^include *= *#&$srcdir/conf/#" \
    "$srcdir/conf/tiny.ini" >"$tmp/moe.ini"
for seed in 1 2; do
    run 0 "$CHIMERA" train "$tmp/moe.ini" "task.train=$corpus/train" "task.heldout=$corpus/heldout" train.steps=2 \
        train.warmup_steps=1 "run.dir=$tmp/moe$seed" run.threads=1 run.seed=$seed layer.MLP.n_routed_experts=3
    run 0 "$CHIMERA" convert "$tmp/moe$seed" -e tl2
done
words "$tmp/moe1" >"$tmp/want2"
for how in run.weights=map run.weights=copy run.verify=full run.verify=no run.verify=once; do
    "$CHIMERA" eval "$tmp/moe1.b158" -o json --limit 2000 $how >"$tmp/got" 2>"$tmp/err" || no "$how: $(cat "$tmp/err")"
    "$CHIMERA" generate "$tmp/moe1.b158" -q --ignore-end -p "line 1" -n 40 run.threads=1 $how >>"$tmp/got"
    same "$tmp/want2" "$tmp/got" "$how says something else"
done
run 0 "$CHIMERA" inspect "$tmp/moe1.b158" --verify full
says out 'its experts +.*moe1_experts.b158'
says out 'its data +verified$'
bad 2 'run.verify' "$CHIMERA" inspect "$tmp/moe1.b158" --verify maybe
mkdir "$tmp/dir"
cp "$tmp/moe1.b158" "$tmp/dir/model.b158"
bad 3 'moe1_experts.b158, which is missing' "$CHIMERA" eval "$tmp/dir"
cp "$tmp/moe2_experts.b158" "$tmp/dir/model_experts.b158"
bad 3 'model_experts.b158 holds the experts of another model' "$CHIMERA" eval "$tmp/dir"
cp "$tmp/moe1_experts.b158" "$tmp/dir/model_experts.b158"
words "$tmp/dir" >"$tmp/got"
same "$tmp/want2" "$tmp/got" "a folder says something else"
run 0 "$CHIMERA" convert "$tmp/dir" -e ternary2 -o "$tmp/dir.b158"
[ -e "$tmp/dir_experts.b158" ] && ok || no "no file of experts"
bad 3 'holds the experts of a packed model' "$CHIMERA" generate "$tmp/dir_experts.b158"

# ---- damage after a verification is damage; without verification it says something else, but ends in order
"$CHIMERA" eval "$tmp/dir.b158" --limit 200 >/dev/null
printf '\377\377\377\377' | dd of="$tmp/dir_experts.b158" bs=1 seek=$(($(wc -c <"$tmp/dir_experts.b158") - 1500)) conv=notrunc 2>/dev/null
bad 3 'dir_experts.b158: tensor .* is damaged' "$CHIMERA" eval "$tmp/dir.b158"
bad 3 'dir_experts.b158: tensor .* is damaged' "$CHIMERA" convert "$tmp/dir.b158" -o "$tmp/x"
run 0 "$CHIMERA" eval "$tmp/dir.b158" --verify no --limit 200

# ---- a file that becomes shorter while its pages are in use
got=0
: >"$tmp/text"                               # there before the first look at it
timeout -k 5 200 "$CHIMERA" generate "$tmp/dir" -q --ignore-end -p "line 1" -n 100000000 >"$tmp/text" 2>"$tmp/err" &
pid=$!
while kill -0 $pid 2>/dev/null && [ "$(wc -c <"$tmp/text")" -le 100 ]; do sleep 0.05; done
truncate -s 8192 "$tmp/dir/model_experts.b158"
wait $pid || got=$?
if [ $got -eq 3 ]; then ok; else no "exit code $got of a generation whose file became shorter: $(cat "$tmp/err")"; fi
says err 'dir/model_experts.b158 cannot be read any more: it became shorter'
if [ "$(wc -l <"$tmp/err")" -eq 1 ]; then ok; else no "more than one line: $(cat "$tmp/err")"; fi

# ---- another plugin that brings an encoding of trits, first in the alphabet, changes nobody's default
mkdir "$tmp/so"
chmod 755 "$tmp" "$tmp/so"
: "${CC:=cc}"
sed 's/"tl2"/"aaa"/; s/CHI_PLUGIN(tl2/CHI_PLUGIN(aaa/; s#"\.\./shared#"'"$srcdir"'/plugins/formats/shared#' \
    "$srcdir/plugins/formats/tl2/tl2.c" | sed 's/\.name = "tl2"/.name = "aaa"/; s/\.encoding = "tl2"/.encoding = "aaa"/' >"$tmp/aaa.c"
# shellcheck disable=SC2086 # CC may be several words
if $CC -std=c11 -O1 -w -ffp-contract=off -shared -fPIC -fvisibility=hidden -I"$srcdir/core/include" -o "$tmp/so/aaa.so" "$tmp/aaa.c" \
    -lm 2>"$tmp/cc"; then
    chmod go-w "$tmp/so/aaa.so"
    export CHIMERA_PLUGIN_PATH="$tmp/so"
    run 0 "$CHIMERA" convert "$r" -o "$tmp/default.b158"
    says out 'layers.0.mixer.q_proj +32 x 32  ternary2 -> ternary2 '
    run 0 "$CHIMERA" convert "$r" -e aaa -o "$tmp/aaa.b158"
    words "$tmp/aaa.b158" >"$tmp/got"
    same "$tmp/want" "$tmp/got" "an encoding of a third party says something else"
    unset CHIMERA_PLUGIN_PATH
    bad 4 "no encoding is called 'aaa'" "$CHIMERA" eval "$tmp/aaa.b158"
else
    no "the plugin does not compile: $(head -n 3 "$tmp/cc")"
fi
finish
