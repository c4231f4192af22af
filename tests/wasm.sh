#!/bin/bash
# chimera as WebAssembly under node: builds it with Debian's emscripten, once with all plugins linked in
# and once with plugins as side modules, and runs both beside the native program.  What must be equal is
# equal to the bit: checks of the backend, tokens and states of generation, held-out loss.  As root it
# installs what is missing; exit code 77 where that is not possible.
#
#     CHIMERA=native srcdir=. tests/wasm.sh [FOLDER]      FOLDER keeps the build
set -eu
srcdir=$(cd "$srcdir" && pwd)
. "$srcdir/tests/e2e/lib.sh"
out=${1:-$tmp/wasm}
mkdir -p "$out"
out=$(cd "$out" && pwd)

# ---- what it needs: emcc, acorn, node, and the sources of two libraries
skip() { echo "SKIP: tests/wasm.sh: $*"; echo "# SKIP: 1"; exit 77; }
begun=$SECONDS
told() { echo "$1: $((SECONDS - begun)) s"; begun=$SECONDS; }
get_emscripten() {
    command -v emcc >/dev/null && command -v node >/dev/null && return 0
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || skip "no emscripten (apt-get install emscripten nodejs)"
    want=emscripten
    command -v node >/dev/null || want="$want nodejs"
    (apt-get -qq update && apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $want) \
        >"$tmp/apt.log" 2>&1 || { tail -n 3 "$tmp/apt.log"; skip "emscripten cannot be installed"; }
    told "emscripten installed"
}
# apt, with lists and sources of its own: the system stays as it is
apt_private() {
    apt-get -qq -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$tmp/apt/parts" \
        -o Dir::State::Lists="$tmp/apt/lists" -o Dir::Cache="$tmp/apt/cache" -o APT::Sandbox::User=root "$@"
}
# Debian's mirrors may have dropped an older version: a newer one serves as well
get_source() {
    for suite in bookworm trixie sid; do
        rm -f "$tmp/apt/"*.orig.tar.*
        (cd "$tmp/apt" && apt_private source --tar-only --download-only "$1/$suite" >"$tmp/apt.log" 2>&1) || continue
        tar xf "$tmp/apt/"*.orig.tar.* -C "$tmp/apt" && return 0
    done
    tail -n 3 "$tmp/apt.log"
    skip "no source of $1"
}
get_libraries() {
    deps=$out/deps
    [ -f "$deps/ini.c" ] && [ -f "$deps/cjson/cJSON.c" ] && return 0
    for h in xxhash.h uthash.h; do [ -f /usr/include/$h ] || skip "no /usr/include/$h"; done
    command -v apt-get >/dev/null || skip "no apt-get for the sources of libinih and cjson"
    mkdir -p "$tmp/apt/parts" "$tmp/apt/lists/partial" "$tmp/apt/cache" "$deps/cjson"
    mirror=$(sed -n 's/^URIs: *\(http[^ ]*debian\)\/*$/\1/p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1)
    printf 'Types: deb-src\nURIs: %s\nSuites: bookworm trixie sid\nComponents: main\nSigned-By: %s\n' \
        "${mirror:-http://deb.debian.org/debian}" /usr/share/keyrings/debian-archive-keyring.gpg >"$tmp/apt/parts/src.sources"
    apt_private update >"$tmp/apt.log" 2>&1 || { tail -n 3 "$tmp/apt.log"; skip "no list of Debian's sources"; }
    get_source cjson
    cp "$tmp/apt/cJSON"*/cJSON.[ch] "$deps/cjson/"
    get_source libinih
    cp "$tmp/apt/inih"*/ini.[ch] "$deps/"
    cp /usr/include/xxhash.h /usr/include/uthash.h "$deps/"
    told "sources of libraries"
}
get_emscripten
get_libraries
export NODE_PATH=/usr/share/nodejs

# ---- the builds
make -s -j "$(nproc)" -f "$srcdir/tools/wasm.mk" OUT="$out" WERROR=-Werror >"$tmp/make.log" 2>&1 || {
    grep -E 'error|warning' "$tmp/make.log" | cut -c 1-300 | head -n 20
    echo "the build failed"
    exit 1
}
told "built"
node="env -u CHIMERA_BUILD_PLUGINS -u CHIMERA_PLUGIN_PATH node --no-experimental-fetch"
static="$node $out/chimera.js" dl="$node $out/chimera-dl.js"
limit=120
has() { if grep -q -- "$1" "$tmp/out"; then ok; else no "no '$1' in the output of $2"; fi; }
same() { if cmp "$1" "$2"; then ok; else no "$3"; fi; }

# ---- what they say about themselves
for w in "$static" "$dl"; do
    run 0 $w --version
    has 'WASM128' "$w --version"
    run 0 $w plugins
    has 'backend *wasm_simd128 .*$' "$w plugins"
    if grep '^refused' "$tmp/out"; then no "$w refuses plugins"; else ok; fi
    run 0 $w inspect "$srcdir/conf/tiny.ini"
    has 'computes with *wasm_simd128 > portable' "$w inspect"
done
run 0 $static plugins
has 'wasm_simd128 .*(static)' "static plugins"
run 0 $dl plugins
has "$out/plugins/kernels/wasm_simd128.so" "plugins as side modules"

# ---- the backend against the reference
run 0 $static validate wasm_simd128
has '^ok .* backend.linears$' validate
has '^ok .* backend.delta_rule$' validate
has '^ok .* backend.vectors$' validate
has '^ok .* backend.rows$' validate
has ' 0 failed, 0 crashed' validate
run 0 $dl validate "$out/plugins/kernels/wasm_simd128.so" --seed 2
has '^ok .* backend.linears$' validate
has '^ok .* imports$' validate
told "validated"

# ---- the same checkpoint, natively and here: text, the stream's state, held-out loss
make_corpus
data="task.train=$corpus/train task.heldout=$corpus/heldout"
tiny=$srcdir/conf/tiny.ini
answers() {                                     # NAME PROGRAM... : what comes of the native run's checkpoint
    name=$1
    shift
    run 0 "$@" generate "$tmp/native" -q -p "line 1 of" -p "text" -n 40 --seed 3 -o jsonl
    cp "$tmp/out" "$tmp/$name.text"
    run 0 "$@" generate "$tmp/native" -q -p "line 1 of" -n 40 --save-session "$tmp/$name.session"
    run 0 "$@" eval "$tmp/native" -o json
    cp "$tmp/out" "$tmp/$name.eval"
}
like_native() {
    same "$tmp/native.text" "$tmp/$1.text" "$1: other tokens than natively"
    same "$tmp/native.session" "$tmp/$1.session" "$1: the state differs from the native one"
    same "$tmp/native.eval" "$tmp/$1.eval" "$1: another held-out loss than natively"
}
for quantizer in ternary int8 f32; do
    rm -rf "$tmp/native"
    run 0 "$CHIMERA" train "$tiny" $data run.dir="$tmp/native" train.steps=20 linear.quantizer=$quantizer
    answers native "$CHIMERA"
    answers static $static
    like_native static
    [ $quantizer = ternary ] || continue
    answers dl $dl
    like_native dl
done
told "answered"

# ---- training: on the reference's matrix product the native program and node agree to the bit, as
# wasm_simd128's sums are in the same order
run 0 "$CHIMERA" train "$tiny" $data run.dir="$tmp/portable" train.steps=6 backend.use=portable
for w in static dl; do
    eval "program=\$$w"
    run 0 $program train "$tiny" $data run.dir="$tmp/$w" train.steps=6
    grep -o '"loss":[^,]*' "$tmp/$w/metrics.jsonl" >"$tmp/$w.losses"
    if awk -F: 'NR == 1 { a = $2 } END { exit !($2 < a - 0.1) }' "$tmp/$w.losses"; then ok; else no "$w: the loss does not fall"; fi
    same "$tmp/portable/ckpt/0000000006/model.safetensors" "$tmp/$w/ckpt/0000000006/model.safetensors" \
        "$w: six steps of training gave other weights than natively"
done
run 0 $static train "$tmp/static" train.steps=8 --resume
same "$tmp/static/ckpt/0000000006/model.safetensors" "$tmp/portable/ckpt/0000000006/model.safetensors" "resuming changed a checkpoint"
told "trained"

# ---- what is absent says so; what is damaged is refused
run 1 $static sweep "$srcdir/conf/ablations/sweep.ini" run.dir="$tmp/sweep"
if grep -q 'no processes can be started here' "$tmp/err"; then ok; else no "sweep does not say why"; fi
mkdir -p "$tmp/bad/layers"
chmod 755 "$tmp" "$tmp/bad" "$tmp/bad/layers"
head -c 1000 "$out/plugins/layers/swiglu.so" >"$tmp/bad/layers/swiglu.so"
run 0 $node "$out/chimera-dl.js" plugins --path "$tmp/bad"
has 'refused *.*swiglu.so: damaged WebAssembly module' "a module cut off"
cp "$out/plugins/layers/swiglu.so" "$tmp/bad/layers/swiglu.so"
run 0 "$CHIMERA" plugins --path "$tmp/bad"
has 'swiglu.so: a WebAssembly module - expected a shared object' "a module given to the native program"
echo "# PASS: $((checks - wrong))"
echo "# FAIL: $wrong"
finish
