#!/bin/sh
# What `make install` puts down works by itself: program, manual page, headers, pkg-config file.
# A layer of somebody else's is compiled against it by one cc line, trains through [plugins] path
# and is listed; `make uninstall` leaves nothing.
set -eu
. "$srcdir/tests/e2e/lib.sh"
umask 002                               # which must not show in the plugins
make_corpus
dest=$tmp/dest
# Without the flags of the make that runs the tests: its jobs are not ours.
make="env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL ${MAKE:-make} -C $builddir -s DESTDIR=$dest"

# shellcheck disable=SC2086
limit=120 run 0 $make install
prefix=$dest$(sed -n 's/^prefix = //p' "$builddir/Makefile")
for file in bin/chimera include/chimera/plugin.h lib/pkgconfig/chimera.pc share/man/man1/chimera.1; do
    if [ -s "$prefix/$file" ]; then ok; else no "make install did not make $file"; fi
done

# The installed program, in a folder with nothing but a configuration; of the installed plugins, which
# its prefix would name, and not of the build's.
cp -r "$srcdir/conf" "$tmp/conf"
cd "$tmp"
unset CHIMERA_BUILD_PLUGINS CHIMERA_PLUGIN_PATH
program=$prefix/bin/chimera
if [ -d "$prefix/lib/chimera" ]; then
    run 0 "$program" plugins            # finds them beside itself, wherever it was put
    says out "$prefix/lib/chimera/layers"
fi
# Who has no checkout has the configurations, and the pages that they name, with links that lead somewhere
pages=$prefix/share/doc/chimera
if diff -r "$srcdir/conf" "$pages/conf" >/dev/null; then ok; else no "other configurations were installed"; fi
run 0 "$program" inspect "$pages/conf/ablations/tl2.ini"
grep -Eo '\]\([^):# ]+\.(md|ini)' "$pages/README.md" "$pages"/doc/*.md "$pages"/plugins/*/*/*.md | sort -u >"$tmp/links"
sed 's/^\(.*\)\/[^/]*:](\(.*\)$/\1\/\2/' "$tmp/links" | while read -r page; do [ -e "$page" ] || echo "$page"; done >"$tmp/lost"
if [ -s "$tmp/lost" ] || [ "$(wc -l <"$tmp/links")" -lt 80 ]; then no "links that lead nowhere: $(head -n 3 "$tmp/lost")"; else ok; fi
# A prefix that only `make install` hears of
# shellcheck disable=SC2086
limit=120 run 0 $make install prefix=/other
if grep -q '^prefix=/other$' "$dest/other/lib/pkgconfig/chimera.pc"; then ok; else no "chimera.pc names another prefix"; fi
pc=$dest/other/lib/pkgconfig/chimera.pc
if grep -q '^validator=.*/bin/chimera validate$' "$pc"; then ok; else no "chimera.pc names no validator"; fi
if [ "abi=$("$program" --version | sed -n 's/.*plugin ABI \([0-9.]*\).*/\1/p')" = "$(grep '^abi=' "$pc")" ]; then
    ok
else
    no "chimera.pc and --version name different ABIs: $(grep '^abi=' "$pc")"
fi
# shellcheck disable=SC2086
run 0 $make uninstall prefix=/other
if [ -d "$prefix/lib/chimera" ]; then CHIMERA_PLUGIN_PATH=$prefix/lib/chimera; export CHIMERA_PLUGIN_PATH; fi
run 0 "$program" plugins
says out 'gated_deltanet'
run 0 "$program" inspect conf/tiny.ini
if command -v man >/dev/null; then
    run 0 man -l "$prefix/share/man/man1/chimera.1"
    says out 'chimera'
fi

# The smallest layer: y = gain * x, of which the gain is learned
umask 022
mkdir -p "$tmp/mine/layers"
cat >"$tmp/gain.c" <<'END'
#include <chimera/plugin.h>

struct gain { int64_t width, gain; };

static chi_status gain_open(const struct chi_host *h, void *self, const void *conf, const struct chi_shape *shape,
                            const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    struct gain *g = self;
    (void)conf;
    if (shape->d_in != shape->d_out) return h->fail(h, CHI_ESHAPE, "d_in and d_out differ");
    g->width = shape->d_in;
    g->gain = ops->param(plan, "gain", (int64_t[]){ g->width, 0 }, CHI_INIT_CONST, 0.5, 0, 0);
    return CHI_OK;
}

static chi_status gain_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct gain *g = self;
    const float *w = CHI_PARAM(r, g->gain, float);
    for (int64_t i = 0; i < r->rows * g->width; i++) y[i] = w[i % g->width] * x[i];
    return CHI_OK;
}

static chi_status gain_backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct gain *g = self;
    const float *w = CHI_PARAM(r, g->gain, float);
    float *dw = CHI_GRAD(r, g->gain, float);
    for (int64_t i = 0; i < r->rows * g->width; i++) {
        dx[i] = w[i % g->width] * dy[i];
        if (r->grads) dw[i % g->width] += x[i] * dy[i];
    }
    return CHI_OK;
}

static const struct chi_layer_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct gain),
    .open = gain_open, .forward = gain_forward, .backward = gain_backward
};
static const struct chi_component gain = {
    .struct_size = sizeof gain, .kind = CHI_LAYER, .name = "gain", .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_STATELESS | CHI_LAYER_SPLIT_FREE,
    .summary = "multiplies each channel by a learned number", .ops = &ops
};
CHI_PLUGIN(gain, .version = "0.1", .license = "MIT", .summary = "a learned gain", .components = CHI_COMPONENTS(&gain));
END
if command -v pkg-config >/dev/null; then
    flags=$(PKG_CONFIG_PATH=$prefix/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$dest pkg-config --cflags chimera)
else
    flags=-I$prefix/include
fi
# shellcheck disable=SC2086
run 0 ${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror -O2 -shared -fPIC $flags -o "$tmp/mine/layers/gain.so" "$tmp/gain.c"
run 0 "$program" inspect "$tmp/mine/layers/gain.so"
says out 'learned number'
run 0 "$program" plugins --path "$tmp/mine"
says out 'layer +gain +0\.1'
cat >"$tmp/mine.ini" <<END
include = conf/tiny.ini
[model]
ffn_pattern = MLP G
[layer.G]
use = gain
[plugins]
path = mine
[task]
train = corpus/train
heldout = corpus/heldout
[run]
dir = run
END
run 0 "$program" train mine.ini train.steps=3
if [ "$(grep -c '"step"' run/metrics.jsonl)" -ge 3 ]; then ok; else no "3 steps did not leave 3 lines"; fi
if grep -q 'gain' "$(find run/ckpt -name model.safetensors | tail -n 1)"; then ok; else no "the checkpoint has no gain"; fi
run 0 "$program" generate run -p line -n 8
rm -r "$tmp/mine"
bad 4 'gain|mine' "$program" generate run -p line -n 8

unset CHIMERA_PLUGIN_PATH
# shellcheck disable=SC2086
run 0 $make uninstall
left=$(find "$dest" -not -type d -o -name chimera)
if [ -z "$left" ]; then ok; else no "make uninstall left: $left"; fi
finish
