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
cpus="max neoverse-n1 cortex-a72"
export LC_ALL=C GOMP_SPINCOUNT=2000             # the program need not start itself again to set it
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
    $host-gcc -std=c11 -O2 -Wall -Wextra -Werror -isystem "$here/tests/arm" -c "$here/tests/arm/criterion.c" \
        -o "$top/criterion.o"
    rm -f "$root/usr/lib/$host/libcriterion.a"
    $host-ar rc "$root/usr/lib/$host/libcriterion.a" "$top/criterion.o"
}

# ---- the two builds
# build FOLDER TARGET FLAGS...
build() {
    local folder=$top/$1 target=$2 lib=$root/usr/lib/$host cc="$host-gcc"
    shift 2
    command -v ccache >/dev/null && cc="ccache $cc"
    mkdir -p "$folder"
    cd "$folder"
    [ -e Makefile ] || "$here/configure" -q --host=$host --enable-werror CC="$cc" \
        CPPFLAGS="-isystem $root/usr/include -isystem $here/tests/arm" \
        LDFLAGS="-L$lib -Wl,-rpath-link,$lib" "$@"
    # shellcheck disable=SC2086
    make -s -j "${JOBS:-$(nproc)}" $target
}


# ---- what runs
# on CPU PROGRAM WORDS...: puts a command for the emulator into $cmd
on() {
    cmd=(qemu-aarch64-static -cpu "$1" -L "$root" -E "CHIMERA_BUILD_PLUGINS=$top/${2%%/*}/plugins" "$top/${@:2:1}" "${@:3}")
}
same() { if cmp -s "$tmp/$1" "$tmp/$2"; then ok; else no "$3"; fi; }
# unit CPU TEST: passes, and not by skipping all of itself
unit() {
    on "$1" "shared/tests/unit/$2"
    run 0 "${cmd[@]}"
    grep '^not ok\|^#' "$tmp/out" | head -20 || :
    if grep '^ok' "$tmp/out" | grep -qv '# SKIP'; then ok; else no "$2 tested nothing on $1"; fi
}
# skips CPU TEST: all of it, because the CPU lacks something
skips() {
    on "$1" "shared/tests/unit/$2"
    run 0 "${cmd[@]}"
    if grep '^ok' "$tmp/out" | grep -v '# SKIP.*lacks'; then no "$2 ran on $1"; else ok; fi
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
tests="test_formats test_linear test_rng"
build static chimera --with-plugins=static
# shellcheck disable=SC2046,SC2086
build shared "all $(printf 'tests/unit/%s ' $tests)"

CHIMERA=${CHIMERA:-$here/build/chimera}
[ -x "$CHIMERA" ] || { echo "no program of this machine at $CHIMERA: set CHIMERA"; exit 1; }
export srcdir=$here
. "$here/tests/e2e/lib.sh"
limit=300
make_corpus

for cpu in $cpus; do
    on "$cpu" shared/chimera --version
    run 0 "${cmd[@]}"
    sed -n "s/^CPU/$cpu:/p" "$tmp/out"
    for t in $tests; do unit "$cpu" "$t"; done
done

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
generation static max portable
echo "# PASS:  $((checks - wrong))"
echo "# FAIL:  $wrong"
finish
