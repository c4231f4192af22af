#!/bin/bash
# arm.sh [FOLDER] - the program and its NEON kernels for 64-bit ARM: cross built, and executed by qemu.
#
# Two builds in FOLDER (build-arm): plugins as files, and all of them linked in.  Libraries of the target
# come from Debian's arm64 packages, unpacked into FOLDER/sysroot; the system is left as it is, but for the
# cross compiler and qemu, which root gets installed.  On a CPU with dotprod and i8mm, on one with dotprod
# alone and on one with neither, the backends pass their checks; text, held-out nats and session files are
# those of the x86 program $CHIMERA, byte for byte.  Correctness only: an emulator says nothing of speed.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "${1:-build-arm}"
top=$(cd "${1:-build-arm}" && pwd)
root=$top/sysroot
host=aarch64-linux-gnu
export LC_ALL=C
unset CHIMERA_BUILD_PLUGINS CHIMERA_PLUGIN_PATH MAKEFLAGS MFLAGS MAKELEVEL

# ---- tools and libraries
tools() {
    local missing=
    command -v $host-gcc >/dev/null || missing+=" gcc-$host libc6-dev-arm64-cross"
    command -v qemu-aarch64-static >/dev/null || missing+=" qemu-user-static"
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get -qq update
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $missing
    else
        echo "skipped: not installed:$missing"
        exit 77
    fi
}
# Packages with all they depend on, by an apt that keeps its lists and archives in the sysroot
sysroot() {
    [ -e "$root/complete" ] && return 0
    local apt=$root/apt want deb
    mkdir -p "$apt/lists/partial" "$apt/archives/partial"
    : >"$apt/status"
    want="libc6 libgomp1 libinih-dev libcjson-dev libxxhash-dev uthash-dev"
    cat >"$apt/conf" <<I
APT { Architecture "arm64"; Architectures { "arm64"; }; Sandbox::User "$(id -un)"; };
Dir { State::lists "$apt/lists"; State::status "$apt/status"; Cache::archives "$apt/archives";
      Cache::pkgcache ""; Cache::srcpkgcache ""; };
I
    APT_CONFIG=$apt/conf apt-get -qq update || echo "a source of packages failed; going on"
    # shellcheck disable=SC2086
    APT_CONFIG=$apt/conf apt-get -qq -y -d -o Debug::NoLocking=1 install --no-install-recommends $want
    for deb in "$apt"/archives/*.deb; do dpkg -x "$deb" "$root"; done
    rm -rf "$apt"
    : >"$root/complete"
}

# Stands in for Criterion, whose processes start themselves anew: see tests/arm/criterion
stand_in() {
    local lib=$root/usr/lib/$host/libcriterion.a from=$here/tests/arm/criterion
    [ "$lib" -nt "$from.c" ] && [ "$lib" -nt "$from/criterion.h" ] && return 0
    $host-gcc -std=c11 -O2 -Wall -Wextra -Werror -isystem "$here/tests/arm" -c "$from.c" -o "$top/criterion.o"
    rm -f "$lib" "$top"/shared/tests/unit/test_*[a-z0-9]      # programs that are linked to the old one
    $host-ar rc "$lib" "$top/criterion.o"
}

# ---- the two builds
# build FOLDER TARGET FLAGS...
build() {
    local folder=$top/$1 target=$2 lib=$root/usr/lib/$host cc="$host-gcc"
    shift 2
    command -v ccache >/dev/null && cc="ccache $cc"
    mkdir -p "$folder"
    cd "$folder"
    [ -e Makefile ] || "$here/configure" -q --cache-file="$top/config.cache" --host=$host --enable-werror CC="$cc" CFLAGS=-O3 \
        CPPFLAGS="-isystem $root/usr/include -isystem $here/tests/arm" \
        LDFLAGS="-L$lib -Wl,-rpath-link,$lib" "$@"
    # shellcheck disable=SC2086
    make -s -j "${JOBS:-$(nproc)}" $target
}

# ---- what runs
# on CPU PROGRAM WORDS...: puts a command for the emulator into $cmd
on() {
    cmd=(qemu-aarch64-static -cpu "$1" -L "$root" -E "CHIMERA_BUILD_PLUGINS=$top/${2%%/*}/plugins" "$top/$2" "${@:3}")
}
same() { if cmp -s "$tmp/$1" "$tmp/$2"; then ok; else no "$3"; fi; }
# start CPU PROGRAM WORDS...: in the background, until judge
started=
start() {
    local name=$1.${2##*/}
    on "$@"
    timeout -k 5 600 "${cmd[@]}" >"$tmp/$name" 2>&1 </dev/null && echo passed >>"$tmp/$name" &
    started+=" $name"
}
# Each has passed, and skipped nothing that a backend has: which CPU runs which suites is decided here
judge() {
    local name
    wait
    for name in $started; do
        sed -i '/ # SKIP it has \(no\|neither\) /d' "$tmp/$name"
        if [ "$(tail -n 1 "$tmp/$name")" = passed ] && ! grep -q '# SKIP' "$tmp/$name"; then ok; else no "$name"; fi
        grep '^not ok\|^#\|SKIP' "$tmp/$name" | head -20 || :
        echo "$name: $(grep -c '^ok' "$tmp/$name") tests passed"
    done
}
# generation BUILD CPU BACKEND: held-out nats, the text and the state after it are those of the x86 program
generation() {
    local with="$1 build, $2, $3"
    on "$2" "$1/chimera" eval "$tmp/run" backend.use="$3" run.threads=2 --output json
    run 0 "${cmd[@]}"
    same out x86.eval "$with: held-out nats"
    on "$2" "$1/chimera" generate "$tmp/run" backend.use="$3" run.threads=2 -p 'line 3 of text' -n 100 \
        --ignore-end --save-session "$tmp/session" -q
    run 0 "${cmd[@]}"
    same out x86.text "$with: the text"
    same session x86.session "$with: the state"
}

tools
sysroot
stand_in
build static chimera --with-plugins=static
build shared "all tests/unit/test_apple_amx tests/unit/test_formats tests/unit/test_linear tests/unit/test_neon tests/unit/test_rows"

CHIMERA=${CHIMERA:-$here/build/chimera}
[ -x "$CHIMERA" ] || { echo "no program of this machine at $CHIMERA: set CHIMERA"; exit 1; }
export srcdir=$here
. "$here/tests/e2e/lib.sh"
limit=300
make_corpus

for cpu in max neoverse-n1 cortex-a72; do
    on "$cpu" shared/chimera --version
    run 0 "${cmd[@]}"
    sed -n "s/^CPU/$cpu:/p" "$tmp/out"
done
start max shared/tests/unit/test_neon neon neon_dotprod neon_i8mm
start neoverse-n1 shared/tests/unit/test_neon neon_dotprod
start cortex-a72 shared/tests/unit/test_neon neon
start cortex-a72 shared/tests/unit/test_apple_amx
start cortex-a72 shared/tests/unit/test_rows
start max shared/tests/unit/test_formats
start max shared/tests/unit/test_linear
# A check in a process of its own would be a program that starts itself anew
start max shared/chimera validate "$top/shared/plugins/kernels/.libs/neon.so" --in-process
# A backend beyond the CPU is refused, by name
on cortex-a72 shared/chimera inspect "$here/conf/tiny.ini" backend.use=neon_dotprod
bad 4 'neon_dotprod needs DOTPROD' "${cmd[@]}"
on neoverse-n1 shared/chimera inspect "$here/conf/tiny.ini" backend.use=neon_i8mm
bad 4 'neon_i8mm needs I8MM' "${cmd[@]}"
on max shared/chimera inspect "$here/conf/ablations/apple_amx.ini"
bad 4 'apple_amx needs APPLE_AMX' "${cmd[@]}"
on max shared/chimera inspect "$here/conf/ablations/neon.ini"
run 0 "${cmd[@]}"
says out '^computes with *neon'
on max shared/chimera inspect "$here/conf/tiny.ini"
run 0 "${cmd[@]}"
says out '^computes with *neon_i8mm > neon_dotprod > neon'

# Training in float gives the same weights, even the portable way on both
small="task.train=$corpus/train task.heldout=$corpus/heldout train.steps=3 model.hidden_size=48 run.threads=2"
# shellcheck disable=SC2086
run 0 "$CHIMERA" train "$here/conf/tiny.ini" $small backend.use=portable run.dir="$tmp/run"
# shellcheck disable=SC2086
on max shared/chimera train "$here/conf/tiny.ini" $small backend.use=portable run.dir="$tmp/arm"
run 0 "${cmd[@]}"
for f in model optimizer; do
    same run/ckpt/0000000003/$f.safetensors arm/ckpt/0000000003/$f.safetensors "portable training gives another $f"
done
run 0 "$CHIMERA" eval "$tmp/run" --output json
cp "$tmp/out" "$tmp/x86.eval"
run 0 "$CHIMERA" generate "$tmp/run" -p 'line 3 of text' -n 100 --ignore-end --save-session "$tmp/x86.session" -q
cp "$tmp/out" "$tmp/x86.text"
generation shared max portable
generation static max auto
generation shared max auto
generation shared neoverse-n1 auto
generation shared cortex-a72 auto
generation shared max neon
# Training with NEON: another gemm, so not the same bits, but nearly the same loss
# shellcheck disable=SC2086
on max shared/chimera train "$here/conf/tiny.ini" $small run.dir="$tmp/neon"
run 0 "${cmd[@]}"
run 0 "$CHIMERA" eval "$tmp/neon" --output json
if cat "$tmp/x86.eval" "$tmp/out" | sed 's/.*"loss":\([0-9.]*\).*/\1/' |
    awk '{ loss[NR] = $1 } END { d = loss[1] - loss[2]; exit !(NR == 2 && loss[1] > 1 && d < 0.01 && d > -0.01) }'
then ok; else no "training with NEON goes elsewhere: $(cat "$tmp/x86.eval" "$tmp/out")"; fi
judge
echo "# PASS:  $((checks - wrong))"
echo "# FAIL:  $wrong"
finish
