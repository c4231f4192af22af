// check.js - our ids against those of independent implementations from npm, text by text.
//     node check.js FOLDER CHIMERA TEXTS: node_modules in FOLDER, where files are left
const { execFileSync } = require('child_process');
const fs = require('fs');
const path = require('path');
const [folder, chimera, count] = process.argv.slice(2);
const need = name => require(require.resolve(name, { paths: [folder] }));
const data = path.join(folder, 'node_modules', 'gpt-tokenizer', 'data');
const texts = require('./texts.js').texts(Number(process.env.SEED || 1), Number(count));
let failed = 0;

function ours(words) {
    const file = path.join(folder, 'texts.jsonl');
    fs.writeFileSync(file, texts.map(t => JSON.stringify(t) + '\n').join(''));
    const out = execFileSync(chimera, ['tokenizer', 'encode', ...words, file, '--json'], { maxBuffer: 1 << 30 }).toString();
    return out.split('\n').slice(0, -1);
}

// usable(text): the two are meant to agree on it
async function compare(name, words, encode, usable = () => true) {
    const mine = ours(words);
    let bad = 0, seen = 0;
    for (let i = 0; i < texts.length; i++) {
        if (!usable(texts[i])) continue;
        seen++;
        const want = Array.from(await encode(texts[i])).join(' ');
        if (mine[i] === want) continue;
        if (bad++ < 3) console.log(`  ${JSON.stringify(texts[i])}\n    ours   ${mine[i]}\n    theirs ${want}`);
    }
    console.log(`${bad ? 'not ok' : 'ok'} - ${name}: ${seen} texts${bad ? `, ${bad} differ` : ''}`);
    failed += bad > 0;
}

// What Node's regular expressions see otherwise than Unicode 16 and White_Space have it
const { Tiktoken } = need('tiktoken/lite');
let bytes = '';
for (let i = 0; i < 256; i++) bytes += Buffer.from([i]).toString('base64') + ' ' + i + '\n';
const letters = ['[\\p{Lu}\\p{Lt}]', '\\p{Ll}', '[\\p{Lm}\\p{Lo}]', '\\p{M}', '\\p{N}', '\\s'].map(p => [
    new Tiktoken(bytes, {}, p), new RegExp(p, 'u')]);
const known = new Map();
function agrees(c) {
    if (!known.has(c)) known.set(c, letters.every(([t, r]) => (t.encode(c).length > 0) === r.test(c)));
    return known.get(c);
}
const node_agrees = t => !t.includes("'\u017f") && Array.from(t).every(agrees);

async function main() {
    const ranks = name => path.join(data, name + '.tiktoken');
    const o200k = ['o200k', 'tokenizer.file=' + ranks('o200k_base')];
    const wasm = need('tiktoken').get_encoding('o200k_base');
    await compare('o200k, tiktoken', o200k, t => wasm.encode_ordinary(t));
    const js = need('js-tiktoken').getEncoding('o200k_base');
    await compare('o200k, js-tiktoken', o200k, t => js.encode(t, [], []), node_agrees);
    const gpt = need('gpt-tokenizer/encoding/o200k_base');
    await compare('o200k, gpt-tokenizer', o200k, t => gpt.encode(t), t => node_agrees(t) && !t.includes('<|'));
    const cl = need('tiktoken').get_encoding('cl100k_base');
    await compare('bpe with cl100k, tiktoken', ['bpe', 'tokenizer.split=cl100k', 'tokenizer.file=' + ranks('cl100k_base')],
        t => cl.encode_ordinary(t));
    const r50 = need('tiktoken').get_encoding('r50k_base');
    await compare('bpe with gpt2, tiktoken', ['bpe', 'tokenizer.split=gpt2', 'tokenizer.file=' + ranks('r50k_base')],
        t => r50.encode_ordinary(t));

    // A vocabulary of our own, in the form that tiktoken reads
    const own = path.join(folder, 'own.ranks');
    execFileSync(chimera, ['tokenizer', 'train', path.join(__dirname, '..', '..', 'doc'), '-n', '2000', '-o', own]);
    const lite = new Tiktoken(fs.readFileSync(own, 'utf8'), {}, JSON.parse(fs.readFileSync(
        path.join(folder, 'node_modules', 'tiktoken', 'encoders', 'o200k_base.json'))).pat_str);
    await compare('a trained vocabulary, tiktoken', [own], t => lite.encode_ordinary(t));
    await require('./check_json.js')({ compare, need, folder, node_agrees });
    console.log(failed ? `${failed} failed` : 'all agree');
    process.exitCode = failed ? 1 : 0;
}
main();
