/* test_o200k.c - pieces of o200k's rule, and ids of its special tokens.  The published ranks are not in this tree:
 * others are made here, and their hash is made to fit, so that all else of the tokenizer is as it is.           */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include <chimera/plugin.h>

#include "../../plugins/tokenizers/bpe/encoder.h"
#include "../../plugins/tokenizers/bpe/regex.h"
#include "fake_host.h"

enum { RANKS = 199998 };
static uint64_t wanted_hash;                    /* of ranks; 0: whatever it comes to                             */

int bpe_regex_match(const void *code, const unsigned char *text, int64_t n, int64_t from, int64_t *begin,
                    int64_t *end)
{
    (void)code, (void)text, (void)n, (void)from, (void)begin, (void)end;
    cr_assert_fail("o200k has no expressions");
    return false;
}

/* hash = (before ^ last) F + bytes, folded: the last token's hash that makes it the wanted one               */
static uint64_t last_hash(const struct vocabulary *v, uint64_t want)
{
    const uint64_t factor = 0xd6e8feb86659fd93u;
    uint64_t h = 0, inverse = factor;
    for (int64_t i = 0; i < v->n - 1; i++) h = (h ^ v->hash[i]) * factor + (uint64_t)v->at[i + 1];
    for (int k = 0; k < 6; k++) inverse *= 2 - factor * inverse;
    want ^= want >> 32;
    return h ^ (want - (uint64_t)v->at[v->n]) * inverse;
}

/* The 256 bytes, then numbers of three bytes                                                                */
chi_status bpe_read_ranks(const struct chi_host *h, const char *path, struct vocabulary *v)
{
    unsigned char *bytes = h->alloc(h, 3 * RANKS);
    v->at = h->alloc(h, (RANKS + 1) * sizeof *v->at);
    for (int64_t i = 0, used = 0; i < RANKS; i++) {
        if (i >= 256) bytes[used++] = (unsigned char)(i >> 16), bytes[used++] = (unsigned char)(i >> 8);
        bytes[used++] = (unsigned char)i;
        v->at[i + 1] = used;
    }
    v->bytes = bytes;
    v->n = RANKS;
    v->whole = true;
    chi_status s = bpe_vocabulary(h, path, v);
    if (s == CHI_OK && wanted_hash) v->hash[RANKS - 1] = last_hash(v, wanted_hash);
    return s;
}

static chi_status opened(struct encoder *e, bool special)
{
    static struct chi_host h;
    struct { const char *file; bool special; } conf = { "ranks", special };
    h = fake_host();
    *e = (struct encoder){ .end = 0 };
    return ((const struct chi_tokenizer_ops *)bpe_o200k.ops)->open(&h, e, &conf);
}

static int64_t ids_of(const struct encoder *e, const char *text, int32_t id[64])
{
    return bpe_encode_plain(e, (const unsigned char *)text, (int64_t)strlen(text), id, 64);
}

static int64_t piece_of(const char *text)
{
    static const unsigned char *class_of;
    struct chi_host h = fake_host();
    if (!class_of) class_of = bpe_classes(&h);
    return bpe_piece(SPLIT_O200K, class_of, (const unsigned char *)text, (int64_t)strlen(text));
}

/* A character that is cut is a sign of its own: the letters around it are two pieces                  */
Test(o200k, invalid_bytes_are_signs)
{
    cr_assert_eq(piece_of("ab\xff" "cd"), 2);
    cr_assert_eq(piece_of("\xff" "cd"), 3);
    cr_assert_eq(piece_of("\xe4\xbd ab"), 2);
    cr_assert_eq(piece_of("\xe4\xbd\xa0 ab"), 3);
    cr_assert_eq(piece_of("\xc1\xa1" "b"), 2, "an overlong a is no letter");
    cr_assert_eq(piece_of("\xed\xa0\x80" "b"), 3, "a surrogate is three signs");
    cr_assert_eq(piece_of("\xf0\x81\x81\x91" "b"), 4, "overlong: four signs");
    cr_assert_eq(piece_of("\xf4\x90\x80\x80" "b"), 4, "above U+10FFFF: four signs");
}

/* Corners of the rule, by hand from its expression                                                     */
Test(o200k, pieces_of_o200k)
{
    static const struct { const char *text; int64_t n; } piece[] = {
        { "it'\xc5\xbf x", 5 },            /* U+017F is an s                                        */
        { "\xcc\x81" "AB", 2 },             /* a mark and capitals: U*L+ takes the mark alone         */
        { "\nab", 1 }, { "\tab", 3 }, { "\xc4\x81\xc4\x80", 2 },   /* a small letter, a capital   */
        { "\xc4\x80\xc4\x81", 4 }, { "ABCd", 4 }, { "ABC", 3 }, { "1234", 3 }, { "  \n  x", 3 }, { "   x", 2 },
            { " x", 2 },
        { " 1", 1 }, { " !!/\n/ ", 6 }, { "don'T x", 5 },
        { "I'll x", 4 }, { "I'lx", 1 }, { "I've x", 4 }, { "I'vx", 1 }, { "I're x", 4 }, { "I'rx", 1 },
    };
    for (size_t i = 0; i < sizeof piece / sizeof *piece; i++)
        cr_assert_eq(piece_of(piece[i].text), piece[i].n, "%zu", i);
}

Test(o200k, other_ranks_are_refused)
{
    struct encoder e;
    cr_assert_eq(opened(&e, false), CHI_EDATA);
    cr_assert(strstr(fake_failure, "not those of o200k_base"), "%s", fake_failure);
}

/* Each of them is one id that decodes to its name, in a text that asks for it; else it is text like other text  */
Test(o200k, special_tokens)
{
    static const struct { const char *text; int32_t id; } token[] = {
        { "<|endofprompt|>", 200018 }, { "<|system|>", 200019 }, { "<|user|>", 200020 }, { "<|assistant|>", 200021 },
        { "<|im_start|>", 200022 }, { "<|im_end|>", 200023 }, { "<|think|>", 200024 }, { "<|/think|>", 200025 },
        { "<|plan|>", 200026 }, { "<|step|>", 200028 }, { "<|act|>", 200030 }, { "<|observe|>", 200032 },
        { "<|function|>", 200034 }, { "<|result|>", 200036 }, { "<|error|>", 200038 }, { "<|code|>", 200040 },
        { "<|output|>", 200042 }, { "<|lang|>", 200044 }, { "<|context|>", 200046 }, { "<|quote|>", 200048 },
        { "<|cite|>", 200050 }, { "<|source|>", 200052 }, { "<|memory|>", 200054 }, { "<|recall|>", 200056 },
        { "<|/recall|>", 200057 }, { "<|pad|>", 200058 }, { "<|stop|>", 200059 }, { "<|sep|>", 200060 },
        { "<|image|>", 200061 }, { "<|audio|>", 200063 }, { "<|video|>", 200065 }, { "<|title|>", 200067 },
        { "<|section|>", 200069 }, { "<|summary|>", 200071 }, { "<|/summary|>", 200072 },
    };
    struct encoder e;
    int32_t id[64];
    unsigned char text[64];
    wanted_hash = 0x473c8241a55f1627u;
    cr_assert_eq(opened(&e, true), CHI_OK, "%s", fake_failure);
    cr_assert_eq(bpe_ids(&e), 200073);
    cr_assert_eq(bpe_end(&e), 199999);
    for (size_t i = 0; i < sizeof token / sizeof *token; i++) {
        cr_assert(ids_of(&e, token[i].text, id) == 1 && id[0] == token[i].id, "%s is %d", token[i].text, (int)id[0]);
        int64_t n = bpe_decode(&e, token[i].id, text, sizeof text);
        cr_assert(n == (int64_t)strlen(token[i].text) && !memcmp(text, token[i].text, (size_t)n), "%s",
                  token[i].text);
        if (i + 1 == sizeof token / sizeof *token || token[i + 1].id != token[i].id + 2) continue;
        char end[64];                                   /* what ends it stands between it and the next           */
        snprintf(end, sizeof end, "<|/%s", token[i].text + 2);
        cr_assert(ids_of(&e, end, id) == 1 && id[0] == token[i].id + 1, "%s is %d", end, (int)id[0]);
    }
    cr_assert_eq(ids_of(&e, "a<|pad|><|sep|>", id), 3);
    cr_assert_gt(ids_of(&e, "<|endoftext|>", id), 1, "the end of a document came from a text");
    for (int32_t i = 199998; i < 200018; i++) cr_assert_eq(bpe_decode(&e, i, text, sizeof text), 0, "%d", (int)i);
    cr_assert_eq(opened(&e, false), CHI_OK, "%s", fake_failure);
    cr_assert_gt(ids_of(&e, "<|pad|>", id), 1);
}
