#!/bin/sh
# A published reader of GGUF files, hyllama and @huggingface/gguf from npm, on a file of chimera export: names, types and
# shapes against those that the second reader of the tests finds.  Run by make check-gguf-npm; 77: no node, or no packages.
set -eu
. "$srcdir/tests/e2e/lib.sh"
command -v npm >/dev/null 2>&1 && command -v python3 >/dev/null 2>&1 || { echo "skipped: no npm, or no python3"; exit 77; }
make_corpus
"$CHIMERA" train "$srcdir/conf/tiny.ini" "task.train=$corpus/train" "task.heldout=$corpus/heldout" train.steps=1 \
    train.warmup_steps=0 "run.dir=$tmp/run" run.threads=1 model.hidden_size=256 layer.GD.head_dim=32 \
    layer.MLP.intermediate_size=256 linear.group_size=256 2>"$tmp/err"
"$CHIMERA" export "$tmp/run" -o "$tmp/m.gguf" >/dev/null 2>&1
python3 -B "$srcdir/tests/gguf_reader.py" "$tmp/m.gguf" | grep bytes | sort >"$tmp/want"
mkdir "$tmp/node"
cd "$tmp/node"
npm init -y >/dev/null 2>&1
npm install --no-audit --no-fund hyllama@0.2.2 @huggingface/gguf@0.4.6 >"$tmp/npm" 2>&1 ||
    { echo "skipped: the packages cannot be installed"; tail -n 2 "$tmp/npm"; exit 77; }
cat >read.mjs <<'END'
import fs from 'node:fs'
const [which, file] = process.argv.slice(2)
const types = { 0: ['F32', 4, 1], 1: ['F16', 2, 1], 34: ['TQ1_0', 54, 256], 35: ['TQ2_0', 66, 256] }
let metadata, infos
if (which === 'hyllama') {
    const { ggufMetadata } = await import('hyllama')
    const b = fs.readFileSync(file);
    ({ metadata, tensorInfos: infos } = ggufMetadata(b.buffer.slice(b.byteOffset, b.byteOffset + b.length)))
} else {
    const { gguf } = await import('@huggingface/gguf');
    ({ metadata, tensorInfos: infos } = await gguf(file, { allowLocalFile: true }))
}
if (metadata['general.architecture'] !== 'chimera') throw new Error('architecture ' + metadata['general.architecture'])
for (const t of infos) {
    const shape = [...(t.shape ?? t.dims)].map(Number).reverse(), [name, bytes, block] = types[Number(t.dtype ?? t.type)]
    console.log(`${t.name} ${name} ${shape.join('x')} ${shape.reduce((a, b) => a * b, 1) / block * bytes} bytes`)
}
END
for which in hyllama huggingface; do
    if node read.mjs $which "$tmp/m.gguf" 2>"$tmp/err" | sort >"$tmp/got" && cmp -s "$tmp/want" "$tmp/got"; then ok
    else no "$which reads something else"; diff "$tmp/want" "$tmp/got" | head -n 6; head -n 5 "$tmp/err"; fi
done
finish
