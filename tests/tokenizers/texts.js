// texts.js - texts of many scripts, signs, code, blanks and emoji, the same for the same seed.
let seed;
function below(n) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor(seed / 4294967296 * n);
}
const blocks = [
    [0x20, 0x7e], [0x20, 0x7e], [0x41, 0x5a], [0x61, 0x7a], [0x30, 0x39], [0xa0, 0x24f], [0x300, 0x36f], [0x370, 0x3ff],
    [0x400, 0x4ff], [0x530, 0x58f], [0x590, 0x5ff], [0x600, 0x6ff], [0x900, 0x97f], [0xe00, 0xe7f], [0x10a0, 0x10ff],
    [0x1100, 0x11ff], [0x1e00, 0x1eff], [0x1f00, 0x1fff], [0x2000, 0x206f], [0x2070, 0x20cf], [0x2150, 0x218f],
    [0x2c60, 0x2c7f], [0x3000, 0x30ff], [0x4e00, 0x9fff], [0xac00, 0xd7a3], [0xa640, 0xa69f], [0xfb00, 0xfb4f],
    [0xfe00, 0xfe0f], [0x85, 0x85], [0x180e, 0x180e], [0xfeff, 0xfeff], [0x1f300, 0x1faff], [0x1d400, 0x1d7ff],
    [0x10400, 0x1044f], [0x20000, 0x2a6df], [0xe0000, 0xe007f], [1, 0x10ffff],
];
const bits = [
    "'s", "'S", "'re", "'VE", "'ll", "'d", "'T", "'\u017f", "'", '\n', '\r\n', '\r', '  ', '   ', '\t', ' ', '\n\n', '/', '//',
    '/* ', '123', '1234567', 'the', ' The', 'HTML', 'iPhone', "McDonald's", "don't", "I'LL", '\u00a0', '\u3000', '\u2028',
    '\u00e9', 'e\u0301', '\u{1f468}\u200d\u{1f469}\u200d\u{1f467}', '\u{1f1e9}\u{1f1ea}', '\u4f60\u597d\u4e16\u754c',
    '\u041f\u0440\u0438\u0432\u0435\u0442', '\u0936\u092c\u094d\u0926', '\u0627\u0644\u0639\u0631\u0628\u064a\u0629',
    '\u01c5', '\u00df', '\ufb01', '\u1fbc', ';\n', '){\n', '\n  return x;\n', '<|endoftext|>', '<|im_start|>',
];

function text() {
    const n = below(5) ? below(60) : below(400), mode = below(4);
    let s = '', block = blocks[below(blocks.length)];
    while (s.length < n) {
        if (below(6) === 0) block = blocks[below(blocks.length)];
        if (mode === 0 || below(3) === 0) s += bits[below(bits.length)];
        else if (mode === 3 && below(8) === 0) s += bits[below(bits.length)].repeat(1 + below(12));
        else {
            const c = block[0] + below(block[1] - block[0] + 1);
            s += String.fromCodePoint(c >= 0xd800 && c <= 0xdfff ? 0x41 : c);
        }
    }
    return s;
}

exports.texts = (first, n) => {
    seed = first;
    return Array.from({ length: n }, text);
};
