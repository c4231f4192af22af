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
skip() { echo "SKIP: $*"; exit 77; }
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
