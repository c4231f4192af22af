#!/bin/sh
# `chimera plugins`: search order, shadowing, reasons of refusal, files that crash, the [plugins] section of a file.
set -eu
. "$srcdir/tests/e2e/lib.sh"
mock=$builddir/tests/mock/.libs
umask 022
mkdir -p "$tmp/a/layers" "$tmp/b/layers"
cp "$mock/good_layer.so" "$tmp/a/layers"
cp "$mock/good_layer.so" "$mock/crash_constructor.so" "$mock/wrong_magic.so" "$tmp/b/layers"

run 0 env CHIMERA_PLUGIN_PATH="$tmp/b" "$CHIMERA" plugins --path "$tmp/a"
says out "1\. $tmp/a  \(plugin path\)"
says out "2\. $tmp/b  \(CHIMERA_PLUGIN_PATH\)"
says out "good_layer .*[0-9a-f]{16}  $tmp/a/layers/good_layer\.so$"
says out "shadowed  $tmp/b/layers/good_layer\.so: not used, $tmp/a/layers/good_layer\.so comes first"
says out "refused   $tmp/b/layers/wrong_magic\.so: magic is 0x12345678"
says out "refused   $tmp/b/layers/crash_constructor\.so: crashed while it was loaded \(signal 6"

# It is not tried twice, unless it changes or somebody names it
run 0 "$CHIMERA" plugins --path "$tmp/b"
says out "refused   $tmp/b/layers/crash_constructor\.so: skipped, it crashed when it was loaded before"
says out "$tmp/cache/chimera/scan remembers it"
bad 4 'crashed while it was loaded' "$CHIMERA" inspect "$tmp/b/layers/crash_constructor.so"
touch -d 2001-01-01 "$tmp/b/layers/crash_constructor.so"
run 0 "$CHIMERA" plugins --path "$tmp/b"
says out "crash_constructor\.so: crashed while it was loaded"
cat "$mock/good_layer.so" >"$tmp/b/layers/crash_constructor.so"
run 0 "$CHIMERA" plugins --path "$tmp/b"
says out "crash_constructor\.so: plugin name is good_layer"
# Where nothing can be written nothing is remembered, and nothing goes wrong
run 0 env XDG_CACHE_HOME=/proc/nowhere "$CHIMERA" plugins --path "$tmp/b"
run 0 env -u XDG_CACHE_HOME -u HOME "$CHIMERA" plugins --path "$tmp/b"

# A configuration's own folder and files
printf '[plugins]\npath = a\n[model]\nhidden_size = broken\n' >"$tmp/a.ini"
printf '[plugins]\nload = %s\n' "$tmp/a/layers/good_layer.so" >"$tmp/b.ini"
for conf in "$tmp/a.ini" "$tmp/b.ini"; do
    run 0 "$CHIMERA" plugins "$conf"
    says out "layer  *good_layer .*$tmp/a/layers/good_layer\.so"
    run 0 "$CHIMERA" inspect good_layer "$conf"
    says out "file: $tmp/a/layers/good_layer\.so"
done
mkdir "$tmp/named"
mkdir "$tmp/named/good_layer"                     # as chimera new leaves it
run 0 sh -c 'cd "$1" && "$2" inspect good_layer ../a.ini' sh "$tmp/named" "$CHIMERA"
says out '^good_layer '
run 0 "$CHIMERA" inspect "$tmp/a.ini" good_layer
bad 4 "no plugin or component is called 'good_layer'" "$CHIMERA" inspect good_layer
printf '[plugins]\npaht = a\n' >"$tmp/c.ini"
bad 2 'paht.*did you mean path' "$CHIMERA" plugins "$tmp/c.ini"
bad 2 'no such file' "$CHIMERA" plugins "$tmp/none.ini"
run 0 "$CHIMERA" plugins -o json --path "$tmp/a"
if grep -q '"searched"' "$tmp/out"; then ok; else no "JSON lacks the folders"; fi
finish
