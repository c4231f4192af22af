#!/bin/sh
# examples/retention-layer as its reader meets it: an installed chimera, a copy of the folder, one compiler
# line through pkg-config; validated, checked against vectors of the paper's parallel form, listed with path
# and hash, trained in the place of the quickstart's mixer by one line of INI, and used for generation.
set -eu
. "$srcdir/tests/e2e/lib.sh"
umask 022
command -v pkg-config >/dev/null || { echo "example.sh: needs pkg-config: skipped"; exit 77; }
make_corpus
make="env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL ${MAKE:-make} -C $builddir -s DESTDIR=$tmp/dest"
# shellcheck disable=SC2086
limit=300 run 0 $make install prefix=/opt/chimera exec_prefix=/opt/chimera
prefix=$tmp/dest/opt/chimera
unset CHIMERA_BUILD_PLUGINS CHIMERA_PLUGIN_PATH
program=$prefix/bin/chimera
if [ ! -d "$prefix/lib/chimera" ]; then echo "example.sh: this build has no shared plugins: skipped"; exit 77; fi
cp -r "$srcdir/examples/retention-layer" "$tmp/mine"
chmod -R u+w "$tmp/mine"
cp -r "$srcdir/conf" "$tmp/conf"
cd "$tmp/mine"

PKG_CONFIG_PATH=$prefix/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$tmp/dest
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
line=$(sed -n 's/^    \(cc .*\)/\1/p' README.md)
if [ "$(printf '%s\n' "$line" | grep -c .)" = 1 ]; then ok; else no "README.md has not one compiler line: $line"; fi
for compiler in "${CC:-cc}" gcc clang; do
    command -v "${compiler%% *}" >/dev/null || continue
    rm -f retention.so
    run 0 sh -c "$compiler -Wextra -Wpedantic -Werror ${line#cc}"
done
run 0 nm -D --defined-only retention.so
if [ "$(awk 'NF == 3 { n++ } END { print n + 0 }' "$tmp/out")" = 1 ]; then ok; else no "it exports more than one symbol"; fi

limit=600 run 0 "$program" validate ./retention.so
if grep -q '^not ok' "$tmp/out"; then no "$(grep '^not ok' "$tmp/out")"; else ok; fi
run 0 "$program" validate ./retention.so --vectors retention.safetensors
says out 'grad\.group_norm\.weight .*tolerance'
says out 'y, every cut into two calls'
# The vectors notice what is wrong in the formula
for slip in 's/-5 - (double)(i/-4 - (double)(i/' 's/(imag \* cosine\[j\] - real/(imag * cosine[j] + real/' \
             's/\* k->dot(S/* 1 * k->dot(S/; s/mean \/= (float)D;/mean = 0;/' 's/dw\[c\] += d\[c\] \* n\[c\]/dw[c] += d[c]/' \
             's/k->silu_mul(h, row_of/if (0) k->silu_mul(h, row_of/'; do
    mkdir -p wrong
    sed "$slip" retention.c >wrong/retention.c
    if cmp -s retention.c wrong/retention.c; then no "nothing was changed by $slip"; fi
    run 0 sh -c "${CC:-cc} -std=c11 -O2 -shared -fPIC $(pkg-config --cflags chimera) -o wrong/retention.so wrong/retention.c -lm"
    bad 4 'missed their tolerance' "$program" validate ./wrong/retention.so --vectors retention.safetensors
done
bad 4 'components of none' "$program" validate --vectors retention.safetensors
says out '^skipped .*retention'
head -c 2000 retention.safetensors >cut.safetensors
bad 3 'cut.safetensors' "$program" validate ./retention.so --vectors cut.safetensors
bad 2 'no file no\.safetensors' "$program" validate ./retention.so --vectors no.safetensors

run 0 "$program" plugins --path "$tmp/mine"
says out "layer +retention +1\.0 .*[0-9a-f]{16} +$tmp/mine/retention\.so"
# In the quickstart's place: its file, one line, and where things are
cat >"$tmp/mine.ini" <<END
include = conf/quickstart.ini
[layer.GD]
use = retention
END
cd "$tmp"
set -- task.train=corpus/train task.heldout=corpus/heldout train.steps=5 train.minutes=0 train.batch_size=2 \
    train.seq_len=32 plugins.path="$tmp/mine"
run 0 "$program" train mine.ini run.dir=run "$@"
if [ "$(grep -c '"step"' run/metrics.jsonl)" -ge 5 ]; then ok; else no "5 steps did not leave 5 lines"; fi
if grep -q 'retention' run/config.ini && grep -q 'mine/retention.so' run/env.json; then ok; else no "the run does not name the layer"; fi
run 0 "$program" train conf/quickstart.ini run.dir=run2 layer.GD.use=retention "$@"
if cmp -s "$(find run/ckpt -name model.safetensors)" "$(find run2/ckpt -name model.safetensors)"; then ok
else no "the line in the file and on the command line give other weights"; fi
run 0 "$program" generate run -p line -n 8
finish
