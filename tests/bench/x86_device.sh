#!/bin/sh
# x86_device.sh - the x86 backends on a machine that has nothing but a C library and /bin/sh.
#   x86_device.sh pack BUILD FOLDER   copies programs, plugins, libraries and confs of a build tree
#   x86_device.sh run FOLDER          runs the checks, the validator and the benchmarks there; all
#                                     output goes to FOLDER/full.log, the short one to stdout
set -eu

pack() {
    build=$1 to=$2 src=$(cd "$(dirname "$0")/../.." && pwd)
    rm -rf "$to"
    mkdir -p "$to/lib" "$to/conf"
    (cd "$build" && make -s tests/unit/test_avx2 tests/unit/test_avx512 tests/unit/test_amx \
        tests/unit/test_rows tests/unit/test_pool tests/bench/linears)
    for f in chimera tests/unit/test_avx2 tests/unit/test_avx512 tests/unit/test_amx tests/unit/test_rows tests/unit/test_pool \
        tests/bench/linears; do
        cp "$build/$f" "$to/"
        ldd "$build/$f" | awk '$3 ~ /^\// && $1 !~ /^(libc|libm|libresolv)\.so/ { print $3 }'
    done | sort -u | while read -r lib; do cp -L "$lib" "$to/lib/"; done
    for f in "$build"/plugins/*/.libs/*.so; do
        folder=$to/plugins/$(basename "$(dirname "$(dirname "$f")")")
        mkdir -p "$folder"
        cp "$f" "$folder/"
    done
    strip "$to/chimera" "$to"/test_* "$to/linears" "$to"/plugins/*/*.so
    mkdir -p "$to/tests/e2e"
    cp "$src/conf/anchor.ini" "$src/conf/base.ini" "$src/conf/tiny.ini" "$src/conf/chimera-5.1.ini" "$to/conf/"
    cp "$src/tests/e2e/lib.sh" "$src/tests/e2e/same_bits.sh" "$to/tests/e2e/"
    cp "$0" "$to/"
    du -sh "$to"
}

# Name, seconds at most, command: its time and whether it failed; all it says goes to the log
step() {
    name=$1 limit=$2 began=$(date +%s) code=0
    shift 2
    echo "== $name" >>full.log
    timeout "$limit" "$@" >>full.log 2>&1 || code=$?
    echo "== $name: exit $code, $(($(date +%s) - began)) s" | tee -a full.log
}

checks() {
    for t in avx512 amx rows pool avx2; do
        from=$(wc -l <full.log)
        step "test_$t" 60 ./test_$t --tap -j4
        tail -n +"$((from + 1))" full.log | grep -E '^not ok|failed|differ|\[[0-9]+\] of|[Cc]rash' | head -n 24 || :
    done
    for p in avx512 amx; do
        from=$(wc -l <full.log)
        step "validate $p" 60 ./chimera validate plugins/kernels/$p.so
        tail -n +"$((from + 1))" full.log | grep -E '^not ok|^#' | head -n 12 || :
    done
}

# The full-size model: decode, batches and prompts beside their limits
model() {
    name=$1 limit=$2
    shift 2
    from=$(wc -l <full.log)
    step "model $name" "$limit" ./chimera bench conf/chimera-5.1.ini --model linear.embed.quantizer=int8 "$@"
    tail -n +"$((from + 2))" full.log | grep -v '^==' || :
}

# One line a thread count: GB/s of decode, GMAC/s of prefill, GFLOP/s of gemm, with their ratios
curve() {
    backend=$1 threads=$2
    from=$(wc -l <full.log)
    step "bench $backend, $threads threads" 40 ./chimera bench conf/anchor.ini --kernels \
        "backend.use=$backend" "run.threads=$threads"
    tail -n +"$((from + 1))" full.log | awk -v b="$backend" '
        / threads / { for (i = 1; i <= NF; i++) if ($i == "threads") n = $(i - 1)
            if (n != last) { if (line != "") print line; line = sprintf("%-26s %2d:", b, n); last = n }
            ratio = ""; for (i = 1; i <= NF; i++) if ($i == "of" && $(i - 1) ~ /^0?[0-9]*\.[0-9]+$/) ratio = "(" $(i - 1) ")"
            for (i = 1; i <= NF; i++) if ($i ~ /^(GB|GMAC|GFLOP)\/s$/) rate = $(i - 1)
            line = line " " substr($1, 1, 3) " " rate ratio }
        END { if (line != "") print line }'
}

run() {
    cd "$1"
    start=$(date +%s)
    LD_LIBRARY_PATH=$PWD/lib CHIMERA_BUILD_PLUGINS=$PWD/plugins
    export LD_LIBRARY_PATH CHIMERA_BUILD_PLUGINS
    chmod -R go-w .
    : >full.log
    grep -m 1 'model name' /proc/cpuinfo
    grep -m 1 '^flags' /proc/cpuinfo | grep -o -E 'avx512f|avx512_vnni|avx512_vbmi|amx_int8|avx512_bf16' | tr '\n' ' ' || :
    nproc
    { uname -a; lscpu || :; free -g || :; } >>full.log 2>&1
    ./chimera plugins 2>&1 | grep -i -E 'cpu|backend' | head -n 12 || :
    checks
    model '16 threads' 90 --steps 9 run.threads=16
    step layers 60 ./chimera bench conf/chimera-5.1.ini --layers
    sed -n '/^== layers$/,/^== layers:/p' full.log | grep -v '^=='
    model '1 thread' 45 --steps 3 run.threads=1
    for n in 8 4 2; do model "$n threads" 25 --steps 5 "run.threads=$n" model.num_hidden_layers=8 loop.prelude=0-0 \
        loop.loop=1-6 loop.coda=7-7 model.vocab_size=50000; done
    from=$(wc -l <full.log)
    step 'models: same bits' 60 env "srcdir=$PWD" "CHIMERA=$PWD/chimera" sh tests/e2e/same_bits.sh
    tail -n +"$((from + 1))" full.log | grep -v '^no \|^==' | head -n 12 || :
    step linears 90 ./linears ternary2 sherry125 base3 int8
    sed -n '/^== linears$/,/^== linears:/p' full.log | grep -v '^=='
    for n in 16 8 4 2; do
        [ "$n" -le "$(nproc)" ] && [ $(($(date +%s) - start)) -lt 230 ] || continue
        for b in avx2 'avx512_vnni avx512' 'amx avx512_vnni avx512'; do curve "$b" "$n"; done
    done
}

case ${1:-} in
pack) pack "$2" "$3" ;;
run) run "$2" ;;
*) sed -n '2,6p' "$0"; exit 2 ;;
esac
