#!/bin/sh
# Plugins that were built with the frozen headers of tests/abi load, validate and train with the program of
# today; so do those of an older MINOR, whose tables are shorter.  A later MINOR, another MAJOR and a table
# with a member in its middle are refused.  doc/abi.md is what the headers say.
set -eu
. "$srcdir/tests/e2e/lib.sh"
umask 022
make_corpus
cp -r "$srcdir/conf" "$tmp/conf"
chmod -R u+w "$tmp/conf"
frozen=$srcdir/tests/abi
cd "$tmp"

if sh "$srcdir/tools/abi-doc.sh" "$srcdir" | cmp -s - "$srcdir/doc/abi.md"; then ok
else no "doc/abi.md is not what the headers say: make abi-doc, and commit it"; fi

# build HEADERS FOLDER NAME
build() {
    mkdir -p "$2"
    # shellcheck disable=SC2086
    run 0 ${CC:-cc} -std=c11 -O2 -shared -fPIC -fvisibility=hidden -ffp-contract=off -I"$1" -o "$2/$3.so" \
        "$frozen/plugins/$3.c" -lm
}

# ---- the frozen interface
for file in "$frozen"/plugins/*.c; do
    name=$(basename "$file" .c)
    build "$frozen/include" old "$name"
    run 0 "$CHIMERA" inspect "./old/$name.so"
    if [ "$got" != 0 ]; then no "today's program refuses $name: if the interface was changed on purpose, make freeze-abi"; fi
    limit=300 run 0 "$CHIMERA" validate "./old/$name.so"
done
sed '/^num_heads\|^head_dim/d' conf/tiny.ini >conf/layer.ini
run 0 "$CHIMERA" train conf/layer.ini plugins.path="$tmp/old" run.dir=run train.steps=3 \
    layer.GD.use=old_layer loop.use=old_loop loop.prelude=0-0 loop.loop=1-1 linear.encoding=old_encoding linear.embed.quantizer=old_quantizer \
    linear.embed.encoding=int8 backend.use=old_backend train.objective=old_objective train.optimizer=old_optimizer \
    data.tokenizer=old_tokenizer data.task=old_task model.vocab_size=289
if [ "$(grep -c '"step"' run/metrics.jsonl 2>/dev/null)" -ge 3 ]; then ok; else no "the frozen plugins did not train"; fi

# ---- an older MINOR: chi_layer_ops ends before its last member, settle
cp -r "$frozen/include" shorter && chmod -R u+w shorter
sed 's/^#define CHI_ABI_MINOR .*/#define CHI_ABI_MINOR 0/' "$frozen/include/chimera/base.h" >shorter/chimera/base.h
sed '/void (\*settle)/,/;/d' "$frozen/include/chimera/layer.h" >shorter/chimera/layer.h
if cmp -s shorter/chimera/layer.h "$frozen/include/chimera/layer.h"; then no "layer.h was not shortened"; else ok; fi
build shorter short old_layer
run 0 "$CHIMERA" inspect ./short/old_layer.so
says out 'ABI:? +0\.0|0\.0'
limit=300 run 0 "$CHIMERA" validate ./short/old_layer.so
for folder in short old; do
    run 0 "$CHIMERA" train conf/layer.ini task.train=corpus/train task.heldout=corpus/heldout layer.GD.use=old_layer \
        plugins.path="$tmp/$folder" run.dir=run-$folder train.steps=3
done
if cmp -s "$(find run-short/ckpt -name model.safetensors)" "$(find run-old/ckpt -name model.safetensors)"; then ok
else no "the shorter table trains another model"; fi

# ---- a member appended without a new MINOR is invisible; with one, older programs refuse the plugin by number
grow() { sed 's/^\(    const void \*(\*service)(const struct chi_host \*, const char \*id);\)/'"$1"'/' "$frozen/include/chimera/host.h" >"$2/chimera/host.h"; }
cp -r "$frozen/include" appended && chmod -R u+w appended
grow '\1\n    void (*added)(const struct chi_host *);' appended
if cmp -s appended/chimera/host.h "$frozen/include/chimera/host.h"; then no "host.h did not grow"; else ok; fi
build appended more old_layer
run 0 "$CHIMERA" inspect ./more/old_layer.so
minor=$(sed -n 's/^#define CHI_ABI_MINOR *\([0-9]*\).*/\1/p' "$frozen/include/chimera/base.h")
for number in "MINOR $((minor + 1))" 'MAJOR 7'; do
    name=${number% *}
    sed "s/^#define CHI_ABI_$name .*/#define CHI_ABI_$number/" "$frozen/include/chimera/base.h" >appended/chimera/base.h
    build appended "later-$name" old_layer
    bad 4 'built for plugin ABI' "$CHIMERA" inspect "./later-$name/old_layer.so"
done

# ---- a member in the middle, without a new MAJOR
cp -r "$frozen/include" middle && chmod -R u+w middle
grow 'void (*added)(const struct chi_host *);\n\1' middle
build middle between old_layer
bad 4 'layout fingerprint' "$CHIMERA" inspect ./between/old_layer.so
finish
