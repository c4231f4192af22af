/* split.c - see split.h.  The rules, in the words of a regular expression:
 *
 *     letter = \p{L}    number = \p{N}    space = \s (White_Space)    U = Lu Lt Lm Lo M    L = Ll Lm Lo M
 *     gpt2     '(s|d|m|t|ll|ve|re) | ' '?letter+ | ' '?number+ | ' '?[^space letter number]+
 *              | space+(?!\S) | space+
 *     cl100k   (?i:'(s|d|m|t|ll|ve|re)) | [^\r\n letter number]?letter+ | number{1,3}
 *              | ' '?[^space letter number]+[\r\n]* | space*[\r\n]+ | space+(?!\S) | space+
 *     qwen2    cl100k with number{1}
 *     o200k    [^\r\n letter number]?U*L+(?i:'(s|...))? | [^\r\n letter number]?U+L*(?i:'(s|...))? | number{1,3}
 *              | ' '?[^space letter number]+[\r\n/]* | space*[\r\n]+ | space+(?!\S) | space+
 *
 * Sources: the GPT-2 release (gpt2), tiktoken's cl100k_base and o200k_base, Qwen2's tokenizer.json.
 * Alternatives are tried in order and quantifiers give back, so that where a run of U has no small letter
 * behind it, U*L+ ends after the last character that is in both, a letter without case or a mark.          */
#include "split.h"

#include <string.h>

enum { IS_P = 1 << CLASS_P, IS_U = 1 << CLASS_U, IS_L = 1 << CLASS_L, IS_X = 1 << CLASS_X, IS_M = 1 << CLASS_M,
       IS_N = 1 << CLASS_N, IS_S = 1 << CLASS_S,
       LETTER = IS_U | IS_L | IS_X, UPPER = IS_U | IS_X | IS_M, LOWER = IS_L | IS_X | IS_M, OTHER = IS_P | IS_M };

struct reader { const unsigned char *class_of, *text; int64_t n; };

const unsigned char *bpe_classes(const struct chi_host *h)
{
    enum { POINTS = 0x110000 };
    int64_t n = (int64_t)(sizeof unicode_runs / sizeof *unicode_runs);
    unsigned char *class_of = h->alloc(h, POINTS);
    for (int64_t i = 0; class_of && i < n; i++) {
        uint32_t first = unicode_runs[i] / 8, end = i + 1 < n ? unicode_runs[i + 1] / 8 : POINTS,
            c = unicode_runs[i] % 8;
        for (uint32_t p = first; p < end; p++)
            class_of[p] = (unsigned char)(c == CLASS_A ? CLASS_U + (p - first) % 2 : c);
    }
    return class_of;
}

/* ---- characters ------------------------------------------------------------------ */

static int continues(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

/* The code point of a well-formed character of 2..4 bytes, or -1                       */
static int32_t wide_character(const unsigned char *t, int64_t n, int64_t *bytes)
{
    int32_t c = t[0];
    *bytes = 1;
    if (c >= 0xc2 && c < 0xe0 && n > 1 && continues(t[1])) {
        *bytes = 2;
        return (c & 0x1f) << 6 | (t[1] & 0x3f);
    }
    if (c >= 0xe0 && c < 0xf0 && n > 2 && continues(t[1]) && continues(t[2])) {
        int32_t p = (c & 0x0f) << 12 | (t[1] & 0x3f) << 6 | (t[2] & 0x3f);
        if (p < 0x800 || (p >= 0xd800 && p < 0xe000)) return -1;
        *bytes = 3;
        return p;
    }
    if (c >= 0xf0 && c < 0xf5 && n > 3 && continues(t[1]) && continues(t[2]) && continues(t[3])) {
        int32_t p = (c & 0x07) << 18 | (t[1] & 0x3f) << 12 | (t[2] & 0x3f) << 6 | (t[3] & 0x3f);
        if (p < 0x10000 || p >= 0x110000) return -1;
        *bytes = 4;
        return p;
    }
    return -1;
}

int bpe_class_at(const unsigned char *class_of, const unsigned char *text, int64_t n, int64_t *bytes)
{
    *bytes = 1;
    if (text[0] < 0x80) return class_of[text[0]];
    int32_t c = wide_character(text, n, bytes);
    return c < 0 ? CLASS_P : class_of[c];
}

bool bpe_shown(const unsigned char *text, int64_t n, unsigned char *to)
{
    enum { SUBSTITUTE = 0x1a };
    bool all = true;
    for (int64_t i = 0, bytes; i < n; i += bytes) {
        bytes = 1;
        bool good = text[i] < 0x80 || wide_character(text + i, n - i, &bytes) >= 0;
        all &= good;
        if (to && good) memcpy(to + i, text + i, (size_t)bytes);
        if (to && !good) to[i] = SUBSTITUTE;
    }
    return all;
}

/* 1 << class, or 0 behind the end                                                       */
static int at(const struct reader *r, int64_t i, int64_t *bytes)
{
    *bytes = 0;
    return i < r->n ? 1 << bpe_class_at(r->class_of, r->text + i, r->n - i, bytes) : 0;
}

/* Where the run of characters in the set that begins at i ends                          */
static int64_t run(const struct reader *r, int64_t i, int set)
{
    int64_t bytes;
    while (at(r, i, &bytes) & set) i += bytes;
    return i;
}

static bool newline(const struct reader *r, int64_t i)
{
    return i < r->n && (r->text[i] == '\n' || r->text[i] == '\r');
}

/* Bytes of 's 't 're 've 'm 'll 'd at i, or 0; without case, U+017F is an s            */
static int64_t contraction(const struct reader *r, int64_t i, bool no_case)
{
    if (i + 1 >= r->n || r->text[i] != '\'') return 0;
    unsigned char a = r->text[i + 1], b = i + 2 < r->n ? r->text[i + 2] : 0;
    if (no_case && a == 0xc5 && b == 0xbf) return 3;
    if (no_case && a >= 'A' && a <= 'Z') a |= 0x20;
    if (no_case && b >= 'A' && b <= 'Z') b |= 0x20;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* ---- alternatives: bytes of the match at 0, or 0 ------------------------------------- */

/* [^\r\n letter number]?letter+                                                          */
static int64_t word(const struct reader *r)
{
    int64_t bytes, first = 0;
    int c = at(r, 0, &bytes);
    if (!(c & (LETTER | IS_N)) && !newline(r, 0)) first = bytes;
    int64_t end = run(r, first, LETTER);
    return end > first ? end : 0;
}

/* U*L+ from i; the same place: no match                                                  */
static int64_t small_word(const struct reader *r, int64_t i)
{
    int64_t bytes, end = i, last = i;
    int c;
    for (; (c = at(r, end, &bytes)) & UPPER; end += bytes)
        if (c & LOWER) last = end + bytes;
    return c & LOWER ? run(r, end, LOWER) : last;
}

/* [^\r\n letter number]?(U*L+ | U+L*)(?i:'s ...)?                                        */
static int64_t cased_word(const struct reader *r)
{
    int64_t bytes, first = 0, end;
    int c = at(r, 0, &bytes);
    if (!(c & (LETTER | IS_N)) && !newline(r, 0)) first = bytes;
    end = small_word(r, first);
    if (end == first && c & IS_M) end = small_word(r, first = 0);
    if (end == first) end = run(r, first, UPPER);
    return end > first ? end + contraction(r, end, true) : 0;
}

static int64_t numbers(const struct reader *r, int most)
{
    int64_t bytes, i = 0;
    while (most-- > 0 && at(r, i, &bytes) & IS_N) i += bytes;
    return i;
}

/* ' '?set+                                                                               */
static int64_t after_blank(const struct reader *r, int set)
{
    int64_t first = r->text[0] == ' ', end = run(r, first, set);
    return end > first ? end : 0;
}

/* ' '?[^space letter number]+[\r\n more]*                                                */
static int64_t signs(const struct reader *r, unsigned char more)
{
    int64_t i = after_blank(r, OTHER);
    if (i) while (newline(r, i) || (i < r->n && r->text[i] == more)) i++;
    return i;
}

/* space+(?!\S) | space+, and before these, if asked, space*[\r\n]+                       */
static int64_t spaces(const struct reader *r, bool lines)
{
    int64_t bytes, i = 0, last = 0, line = 0;
    while (at(r, i, &bytes) & IS_S) {
        last = i;
        i += bytes;
        if (newline(r, last)) line = i;
    }
    if (lines && line) return line;
    return i < r->n && last ? last : i;
}

/* ---- rules ------------------------------------------------------------------------- */

static int64_t gpt2(const struct reader *r)
{
    int64_t n = contraction(r, 0, false);
    if (!n) n = after_blank(r, LETTER);
    if (!n) n = after_blank(r, IS_N);
    if (!n) n = after_blank(r, OTHER);
    return n ? n : spaces(r, false);
}

static int64_t cl100k(const struct reader *r, int digits)
{
    int64_t n = contraction(r, 0, true);
    if (!n) n = word(r);
    if (!n) n = numbers(r, digits);
    if (!n) n = signs(r, '\n');
    return n ? n : spaces(r, true);
}

static int64_t o200k(const struct reader *r)
{
    int64_t n = cased_word(r);
    if (!n) n = numbers(r, 3);
    if (!n) n = signs(r, '/');
    return n ? n : spaces(r, true);
}

int64_t bpe_piece(int rule, const unsigned char *class_of, const unsigned char *text, int64_t n)
{
    struct reader r = { class_of, text, n };
    if (rule == SPLIT_GPT2) return gpt2(&r);
    if (rule == SPLIT_CL100K) return cl100k(&r, 3);
    if (rule == SPLIT_QWEN2) return cl100k(&r, 1);
    if (rule == SPLIT_O200K) return o200k(&r);
    return n;
}
