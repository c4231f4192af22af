#!/bin/sh
# A component that crashes is named, with the call and the step, and the run goes on afterwards; a
# NaN is found where it arises (run.paranoid).  The layer is tests/mock/faulty.c.
set -eu
. "$srcdir/tests/e2e/lib.sh"
mock=$PWD/tests/mock/layers/.libs/faulty.so
if [ ! -f "$mock" ]; then
    echo "skip: no mock plugin (static build)"
    exit 77
fi
if "$CHIMERA" --version | grep -q sanitize || nm "$(dirname "$CHIMERA")/.libs/chimera" "$CHIMERA" 2>/dev/null | grep -q __asan_init; then
    echo "skip: a sanitizer catches crashes itself"
    exit 77
fi
mkdir -p "$tmp/plugins/layers"
cp "$mock" "$tmp/plugins/layers/faulty.so"
chmod 755 "$tmp/plugins" "$tmp/plugins/layers"
chmod 644 "$tmp/plugins/layers/faulty.so"
awk 'BEGIN { for (k = 0; k < 90; k++) printf "line %d says %d\n", k, k * 7 % 17 }' >"$tmp/text"
printf "line 91 says 7\n" >"$tmp/held"
cat >"$tmp/f.ini" <<INI
[model]
hidden_size = 16
num_hidden_layers = 3
layer_pattern = GD GD F
ffn_pattern = MLP
[layer.GD]
use = gated_deltanet
num_heads = 2
head_dim = 8
[layer.F]
use = faulty
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
batch_size = 2
seq_len = 16
steps = 8
checkpoint_every = 3
[run]
dir = run
threads = 2
[plugins]
path = $tmp/plugins
INI
ulimit -c 0 2>/dev/null || :

# crashes NAME CODE WORDS OVERRIDE...
crashes() {
    name=$1 want=$2 words=$3
    shift 3
    run "$want" "$CHIMERA" train "$tmp/f.ini" run.dir="$tmp/$name" "$@"
    says err "crashed in $words"
    says err "train .*$name --resume"
    if grep -Eq "crashed in $words" "$tmp/$name/log.txt"; then ok; else no "$name: log.txt does not say it"; fi
}
crashes back 139 'layers\.2\.mixer \(faulty\) backward, step 5: SIGSEGV' layer.F.at=5 layer.F.where=backward
# what it says to do works: without the fault the run ends like one that never had it
run 0 "$CHIMERA" train "$tmp/f.ini" run.dir="$tmp/back" --resume
run 0 "$CHIMERA" train "$tmp/f.ini" run.dir="$tmp/whole"
if cmp -s "$tmp/back/ckpt/0000000008/model.safetensors" "$tmp/whole/ckpt/0000000008/model.safetensors"; then ok
else no "a run that crashed and went on has other weights"; fi
crashes fore 134 'layers\.2\.mixer \(faulty\) forward, step 2: SIGABRT' layer.F.at=2 layer.F.what=abort
# in a worker of a parallel loop
crashes task 139 'layers\.2\.mixer \(faulty\) forward, step 4: SIGSEGV' layer.F.at=4 layer.F.where=task
# in use, where there is no step
run 139 "$CHIMERA" generate "$tmp/whole" --prompt line layer.F.at=1
says err 'crashed in layers\.2\.mixer \(faulty\) (forward|step): SIGSEGV'

# nonfinite WHAT WORDS: the first that is not finite, named
nonfinite() {
    rm -rf "$tmp/nan"
    bad 1 "first not finite: $2" "$CHIMERA" train "$tmp/f.ini" run.dir="$tmp/nan" run.paranoid=yes \
        layer.F.at=3 layer.F.where="$1" layer.F.what="$3"
    says err 'step 3:'
}
nonfinite forward 'y of layers\.2\.mixer \(faulty\) forward' nan_y
nonfinite backward 'dx of layers\.2\.mixer \(faulty\) backward' nan_dx
nonfinite backward 'the gradient of w of layers\.2\.mixer \(faulty\) backward' nan_grad
# without the scan the run stops, too, but knows less
rm -rf "$tmp/nan"
bad 1 'first not finite: the gradient of' "$CHIMERA" train "$tmp/f.ini" run.dir="$tmp/nan" layer.F.at=3 layer.F.where=backward layer.F.what=nan_dx
if grep -q 'faulty' "$tmp/err"; then no "the layer is named without the scan, so the scan is not tested"; else ok; fi
# the scan changes no bit
run 0 "$CHIMERA" train "$tmp/f.ini" run.dir="$tmp/careful" run.paranoid=yes
if cmp -s "$tmp/careful/ckpt/0000000008/model.safetensors" "$tmp/whole/ckpt/0000000008/model.safetensors"; then ok
else no "run.paranoid changes the weights"; fi
bad 1 'not finite: y of layers\.2\.mixer \(faulty\) forward' "$CHIMERA" eval "$tmp/whole" run.paranoid=yes layer.F.at=1 layer.F.what=nan_y
finish
