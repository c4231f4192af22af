// fixture.js - writes tests/data/tokenizers/: small vocabularies, texts, and the ids that tiktoken and the
// tokenizers library give them, so that `make check` compares without a network.
//     node fixture.js FOLDER CHIMERA: node_modules in FOLDER
const { execFileSync } = require('child_process');
const fs = require('fs');
const path = require('path');
const [folder, chimera] = process.argv.slice(2);
const need = name => require(require.resolve(name, { paths: [folder] }));
const { texts } = require('./texts.js');
const to = path.join(__dirname, '..', 'data', 'tokenizers');
fs.mkdirSync(to, { recursive: true });

const corpus = path.join(folder, 'fixture.txt');
fs.writeFileSync(corpus, texts(7, 2500).join('\n') + fs.readFileSync(path.join(__dirname, '..', '..', 'README.md')).toString().repeat(8));
const ranks = path.join(to, 'small.ranks');
execFileSync(chimera, ['tokenizer', 'train', corpus, '-n', '700', '-o', ranks]);

const encoder = name => JSON.parse(fs.readFileSync(path.join(folder, 'node_modules', 'tiktoken', 'encoders', name + '.json'))).pat_str;
const { Tiktoken } = need('tiktoken/lite');
const patterns = { o200k: encoder('o200k_base'), cl100k: encoder('cl100k_base'), gpt2: encoder('r50k_base'),
                   qwen2: encoder('cl100k_base').replace('{1,3}', ''), none: '(?s:.+)' };
const lines = [];
for (const [split, pattern] of Object.entries(patterns)) {
    const t = new Tiktoken(fs.readFileSync(ranks, 'utf8'), {}, pattern);
    for (const text of texts(split.length, split === 'o200k' ? 60 : 20).filter(x => x.length))
        lines.push(JSON.stringify({ split, text, ids: Array.from(t.encode_ordinary(text)) }));
}
fs.writeFileSync(path.join(to, 'small.jsonl'), lines.join('\n') + '\n');

// The same vocabulary as a tokenizer.json: a token's merge is of what the tokens before it make of its bytes
const tokens = fs.readFileSync(ranks, 'utf8').split('\n').filter(l => l).map(l => Buffer.from(l.split(' ')[0], 'base64').toString('latin1'));
const rank = new Map(tokens.map((t, i) => [t, i]));
function parts(token) {
    let p = Array.from(token);
    while (p.length > 2) {
        let best = -1;
        for (let i = 0; i + 1 < p.length; i++) {
            const r = rank.get(p[i] + p[i + 1]);
            if (r !== undefined && p[i].length + p[i + 1].length < token.length && (best < 0 || r < rank.get(p[best] + p[best + 1]))) best = i;
        }
        p.splice(best, 2, p[best] + p[best + 1]);
    }
    return p;
}
const table = [];
for (let b = 0, other = 0; b < 256; b++)
    table[b] = String.fromCodePoint((b > 32 && b < 127) || (b > 160 && b !== 173) ? b : 256 + other++);
const shown = t => Array.from(t).map(c => table[c.charCodeAt(0)]).join('');
const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false };
const json = {
    version: '1.0', truncation: null, padding: null,
    added_tokens: [{ id: tokens.length, content: '<|endoftext|>', ...flags, special: true },
                   { id: tokens.length + 1, content: '<|im_start|>', ...flags, special: true },
                   { id: tokens.length + 2, content: 'return x', ...flags, special: false }],
    normalizer: null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [
        { type: 'Digits', individual_digits: true },
        { type: 'Split', pattern: { String: '/' }, behavior: 'MergedWithPrevious', invert: false },
        { type: 'Split', pattern: { Regex: encoder('cl100k_base') }, behavior: 'Isolated', invert: false },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false }] },
    post_processor: null, decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false,
             byte_fallback: false, ignore_merges: false, vocab: Object.fromEntries(tokens.map((t, i) => [shown(t), i])),
             merges: tokens.slice(256).map(t => parts(t).map(shown).join(' ')) },
};
const file = path.join(to, 'small.json');
fs.writeFileSync(file, JSON.stringify(json) + '\n');
const t = need('@anush008/tokenizers').Tokenizer.fromFile(file);
(async () => {
    const out = [];
    for (const text of texts(3, 40).filter(x => x.length && !x.includes('<|')))
        out.push(JSON.stringify({ text, ids: (await t.encode(text, null, { addSpecialTokens: false })).getIds() }));
    fs.writeFileSync(path.join(to, 'small_json.jsonl'), out.join('\n') + '\n');
})();
