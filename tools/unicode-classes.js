// unicode-classes.js - writes plugins/tokenizers/bpe/unicode.h: what the split rules of byte-level BPE ask of a
// code point, as the reference implementation (npm tiktoken, run with its own regular expressions) answers it.
//     node tools/unicode-classes.js FOLDER > plugins/tokenizers/bpe/unicode.h
const { Tiktoken } = require(require.resolve('tiktoken/lite', { paths: [process.argv[2]] }));
const classes = { U: '[\\p{Lu}\\p{Lt}]', L: '\\p{Ll}', X: '[\\p{Lm}\\p{Lo}]', M: '\\p{M}', N: '\\p{N}', S: '\\s' };
const names = ['P', ...Object.keys(classes)];
let ranks = '';
for (let i = 0; i < 256; i++) ranks += Buffer.from([i]).toString('base64') + ' ' + i + '\n';

// Text that a pattern does not match has no tokens, and every other byte is one
const class_of = new Uint8Array(0x110000);
const points = [];
for (let c = 0; c < 0x110000; c++) if (c < 0xd800 || c > 0xdfff) points.push(c);
for (const name in classes) {
    const t = new Tiktoken(ranks, {}, classes[name]);
    for (let i = 0; i < points.length; i += 4096) {
        const text = points.slice(i, i + 4096).map(c => String.fromCodePoint(c)).join('');
        for (const ch of Buffer.from(t.encode(text)).toString('utf8')) class_of[ch.codePointAt(0)] = names.indexOf(name);
    }
    t.free();
}

// Runs of one class; A is U L U L ... (class 7), which capitals and small letters of many scripts are
const runs = [];
for (let c = 0; c < 0x110000;) {
    let e = c;
    while (e < 0x110000 && class_of[e] === class_of[c]) e++;
    let a = c;
    while (a + 1 < 0x110000 && class_of[a] === 1 && class_of[a + 1] === 2) a += 2;
    if (a > c + 2) { runs.push([c, 7]); c = a; }
    else { runs.push([c, class_of[c]]); c = e; }
}
const words = runs.map(([c, k]) => '0x' + (c * 8 + k).toString(16));
const lines = [];
let line = '   ';
for (const w of words) {
    if (line.length + w.length + 2 > 110) { lines.push(line); line = '   '; }
    line += ' ' + w + ',';
}
lines.push(line);
console.log(`/* unicode.h - classes of code points, made by tools/unicode-classes.js; not to be edited.
 *
 * Each entry is 8 * first code point + class, and holds up to the next one.                        */
#ifndef BPE_UNICODE_H
#define BPE_UNICODE_H

#include <stdint.h>

enum {                                      /* Unicode 16                               */
    CLASS_P,                                /* none of the others                       */
    CLASS_U,                                /* Lu, Lt: capitals                         */
    CLASS_L,                                /* Ll: small letters                        */
    CLASS_X,                                /* Lm, Lo: letters of one case              */
    CLASS_M,                                /* marks                                    */
    CLASS_N,                                /* numbers                                  */
    CLASS_S,                                /* white space                              */
    CLASS_A                                 /* in this table: U, L, U, L ...            */
};

static const uint32_t unicode_runs[] = {
${lines.join('\n')}
};

#endif`);
