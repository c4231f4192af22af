/* test_bpe.c - byte-level BPE: ids that other implementations gave to the same texts and vocabularies
 * (tests/data/tokenizers, written by tests/tokenizers/fixture.js), any bytes there and back, long pieces,
 * special tokens, training, and files that are not what they should be.                                 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core.h"
#include "fs.h"
#include "json.h"
#include "spec.h"
#include "tokens.h"
#include "vocab_train.h"

/* ---- opening ------------------------------------------------------------------------------------ */

static char *data(const char *name)
{
    const char *source = getenv("srcdir");
    cr_assert(source, "run me through make check");
    return xprintf("%s/tests/data/tokenizers/%s", source, name);
}

struct open { struct spec *spec; struct tokens *t; };

/* words: overrides, ended by NULL                                                                     */
static chi_status open_with(struct open *o, const char *const *words)
{
    char *copy[8] = { NULL };
    int n = 0;
    struct config *c;
    for (; n < 8 && words[n]; n++) copy[n] = xstrdup(words[n]);
    chi_status s = config_load(&c, NULL, copy, n);
    *o = (struct open){ NULL, NULL };
    if (s == CHI_OK) s = spec_open(&o->spec, c, SPEC_TOKENIZER);
    if (s == CHI_OK) s = tokens_open_alone(&o->t, o->spec);
    for (int i = 0; i < n; i++) free(copy[i]);
    return s;
}

static void open_file(struct open *o, const char *tokenizer, const char *file, const char *more)
{
    char *name = xprintf("data.tokenizer=%s", tokenizer), *path = data(file), *set = xprintf("tokenizer.file=%s", path);
    cr_assert_eq(open_with(o, (const char *const[]){ name, set, more, NULL }), CHI_OK, "%s", fail_text());
    free(name);
    free(path);
    free(set);
}

static void shut(struct open *o)
{
    tokens_close(o->t);
    spec_close(o->spec);
}

static unsigned char *file_of(const char *name, int64_t *n)
{
    unsigned char *text;
    char *path = data(name);
    cr_assert_eq(fs_read(path, &text, n), CHI_OK, "%s", fail_text());
    free(path);
    return text;
}

/* ---- ids and bytes ---------------------------------------------------------------------------------- */

static void back_again(struct tokens *t, const unsigned char *text, int64_t n)
{
    int32_t *id;
    int64_t count, at = 0;
    cr_assert_eq(tokens_encode(t, text, n, false, &id, &count), CHI_OK, "%s", fail_text());
    for (int64_t i = 0; i < count; i++) {
        const unsigned char *bytes;
        int64_t m = tokens_decode(t, id[i], &bytes);
        cr_assert(at + m <= n && !memcmp(text + at, bytes, (size_t)m), "token %lld of %lld", (long long)i, (long long)count);
        at += m;
    }
    cr_assert_eq(at, n);
    free(id);
}

static void same_ids(struct tokens *t, const cJSON *line)
{
    const char *text = json_text(line, "text");
    const cJSON *want = cJSON_GetObjectItem(line, "ids");
    int32_t *id;
    int64_t n;
    cr_assert_eq(tokens_encode(t, (const unsigned char *)text, (int64_t)strlen(text), false, &id, &n), CHI_OK, "%s", fail_text());
    cr_assert_eq(n, cJSON_GetArraySize(want), "%s: %lld ids, wanted are %d", text, (long long)n, cJSON_GetArraySize(want));
    for (int i = 0; i < n; i++)
        cr_assert_eq(id[i], cJSON_GetArrayItem(want, i)->valueint, "%s: id %d of %s", text, i, json_text(line, "split"));
    free(id);
    back_again(t, (const unsigned char *)text, (int64_t)strlen(text));
}

/* Lines of the file whose split is this one (NULL: all); their number                                    */
static int each_line(const char *file, const char *split, struct tokens *t)
{
    int64_t n;
    unsigned char *text = file_of(file, &n), *end = text + n;
    int seen = 0;
    for (unsigned char *line = text, *eol; line < end; line = eol + 1) {
        cJSON *j;
        eol = memchr(line, '\n', (size_t)(end - line));
        cr_assert(eol);
        cr_assert_eq(json_parse(file, (const char *)line, eol - line, 4, &j), CHI_OK, "%s", fail_text());
        if (!split || !strcmp(json_text(j, "split"), split)) {
            same_ids(t, j);
            seen++;
        }
        cJSON_Delete(j);
    }
    mem_free(text);
    return seen;
}

Test(bpe, ids_are_tiktokens)
{
    static const char *const split[] = { "o200k", "cl100k", "gpt2", "qwen2", "none" };
    for (int i = 0; i < 5; i++) {
        struct open o;
        char *set = xprintf("tokenizer.split=%s", split[i]);
        open_file(&o, "bpe", "small.ranks", set);
        cr_assert_eq(tokens_vocab(o.t), 700);
        cr_assert_eq(tokens_end(o.t), 699);
        cr_assert_geq(each_line("small.jsonl", split[i], o.t), 15, "%s", split[i]);
        shut(&o);
        free(set);
    }
}

Test(bpe, ids_are_those_of_the_tokenizers_library)
{
    struct open o;
    open_file(&o, "huggingface", "small.json", NULL);
    cr_assert_eq(tokens_vocab(o.t), 702);
    cr_assert_eq(tokens_end(o.t), 699);
    cr_assert_geq(each_line("small_json.jsonl", NULL, o.t), 20);
    shut(&o);
}

/* ---- any bytes ------------------------------------------------------------------------------------------ */

static uint32_t random_bits(uint32_t *s)
{
    return *s = *s * 1664525u + 1013904223u;
}

static void draw(unsigned char *text, int64_t n, uint32_t *s)
{
    static const char *const piece[] = { "the ", "\xc3\xa9", "\xe4\xbd\xa0", "\xf0\x9f\x98\x80", "\xf0\x9f", "\xc0\x80",
                                         "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff", "\r\n", "  ", "123", "\xe2\x80", "/*" };
    for (int64_t i = 0; i < n;) {
        const char *p = piece[(random_bits(s) >> 20) % (sizeof piece / sizeof *piece)];
        if (random_bits(s) >> 31) text[i++] = (unsigned char)(random_bits(s) >> 24);
        else for (; *p && i < n; p++) text[i++] = (unsigned char)*p;
    }
}

Test(bpe, any_bytes_come_back)
{
    static const char *const file[] = { "small.ranks", "small.json" };
    unsigned char text[300];
    uint32_t s = 1;
    for (int f = 0; f < 2; f++) {
        struct open o;
        open_file(&o, f ? "huggingface" : "bpe", file[f], NULL);
        for (int i = 0; i < 400; i++) {
            int64_t n = random_bits(&s) >> 24;
            draw(text, n, &s);
            back_again(o.t, text, n);
        }
        shut(&o);
    }
}

/* A character that is cut is a sign of its own: the letters around it are two pieces                  */
Test(bpe, invalid_bytes_are_signs)
{
    struct open o;
    open_file(&o, "bpe", "small.ranks", NULL);
    cr_assert_eq(tokens_piece(o.t, (const unsigned char *)"ab\xff" "cd", 5), 2);
    cr_assert_eq(tokens_piece(o.t, (const unsigned char *)"\xff" "cd", 3), 3);
    cr_assert_eq(tokens_piece(o.t, (const unsigned char *)"\xe4\xbd ab", 5), 2);
    cr_assert_eq(tokens_piece(o.t, (const unsigned char *)"\xe4\xbd\xa0 ab", 6), 3);
    shut(&o);
}

/* The heap and the plain loop give the same ids: of a piece of n bytes, and of n bytes of one that is long.
 * 2 MB of one letter would take hours if anything were quadratic                                        */
Test(bpe, long_pieces)
{
    enum { LONG = 2000000 };
    struct open o;
    int32_t *id;
    int64_t n;
    open_file(&o, "bpe", "small.ranks", "tokenizer.split=none");
    unsigned char *text = malloc(LONG);
    memset(text, 'l', LONG);
    double begun = now_s();
    cr_assert_eq(tokens_encode(o.t, text, LONG, false, &id, &n), CHI_OK, "%s", fail_text());
    cr_assert_lt(now_s() - begun, 60);
    cr_assert_lt(n, LONG);
    free(id);
    back_again(o.t, text, LONG);
    free(text);
    shut(&o);
}

/* ---- special tokens ----------------------------------------------------------------------------------------- */

static int64_t count_id(struct tokens *t, const char *text, int32_t wanted)
{
    int32_t *id;
    int64_t n, seen = 0;
    cr_assert_eq(tokens_encode(t, (const unsigned char *)text, (int64_t)strlen(text), false, &id, &n), CHI_OK, "%s", fail_text());
    for (int64_t i = 0; i < n; i++) seen += id[i] == wanted;
    free(id);
    back_again(t, (const unsigned char *)text, (int64_t)strlen(text));
    return seen;
}

Test(bpe, special_tokens_only_when_asked)
{
    const char *text = "a<|im_start|>b <|endoftext|> return x";
    for (int asked = 0; asked < 2; asked++) {
        struct open o;
        open_file(&o, "huggingface", "small.json", asked ? "tokenizer.special=yes" : "tokenizer.special=no");
        cr_assert_eq(count_id(o.t, text, 700), asked);
        cr_assert_eq(count_id(o.t, text, 699), 0, "the end of a document came from a text");
        cr_assert_eq(count_id(o.t, text, 701), 1, "added tokens that are not special are always there");
        shut(&o);
    }
}

/* ---- training -------------------------------------------------------------------------------------------------- */

static char *token(const struct vocab *v, int64_t i)
{
    return xprintf("%.*s", (int)(v->at[i + 1] - v->at[i]), (const char *)v->text + v->at[i]);
}

/* By hand: in "abab" x 3, "bc" x 6, "cd" x 6 the pair ab is there 6 times, bc and cd too: the lowest ids first, ab;
 * then bc before cd; abab 3 times; then nothing is there twice                                                    */
Test(bpe, training_joins_the_most_frequent_pair_and_breaks_ties_by_ids)
{
    static const struct { const char *piece; int times; } text[] = { { "abab", 3 }, { "cd", 6 }, { "bc", 6 }, { "x", 9 } };
    static const char *const want[] = { "ab", "bc", "cd", "abab" };
    struct pieces p = { .n = 0 };
    struct vocab v;
    struct progress shown;
    progress_begin(&shown, 0);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < text[i].times; k++)
            pieces_count(&p, (const unsigned char *)text[i].piece, (int64_t)strlen(text[i].piece));
    vocab_train(&v, &p, 1000, 2, &shown);
    cr_assert_eq(v.n, 260, "%lld", (long long)v.n);
    for (int i = 0; i < 4; i++) {
        char *t = token(&v, 256 + i);
        cr_assert_str_eq(t, want[i]);
        free(t);
    }
    vocab_free(&v);
    vocab_train(&v, &p, 258, 2, &shown);
    cr_assert_eq(v.n, 258);
    vocab_free(&v);
    vocab_train(&v, &p, 1000, 4, &shown);
    cr_assert_eq(v.n, 259);
    vocab_free(&v);
    pieces_free(&p);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static void refused(const char *tokenizer, const char *text, int64_t n, const char *why)
{
    char path[] = "/tmp/chimera-bpe.XXXXXX";
    int fd = mkstemp(path);
    struct open o;
    cr_assert(fd >= 0 && fs_write_all(fd, text, n));
    close(fd);
    char *name = xprintf("data.tokenizer=%s", tokenizer), *set = xprintf("tokenizer.file=%s", path);
    cr_assert_eq(open_with(&o, (const char *const[]){ name, set, NULL }), CHI_EDATA, "%s: %s", why, fail_text());
    cr_assert(strstr(fail_text(), why), "wanted is '%s': %s", why, fail_text());
    cr_assert(!strchr(fail_text(), '\n'), "%s", fail_text());
    shut(&o);
    remove(path);
    free(name);
    free(set);
}

/* The text with the first place of from changed                                                                       */
static void refused_after(const char *tokenizer, const char *file, const char *from, const char *to, const char *why)
{
    int64_t n;
    unsigned char *text = file_of(file, &n);
    char *place = memmem(text, (size_t)n, from, strlen(from));
    cr_assert(place, "%s", from);
    int64_t head = place - (char *)text, tail = n - head - (int64_t)strlen(from);
    char *bad = malloc((size_t)n + strlen(to) + 1);
    memcpy(bad, text, (size_t)head);
    memcpy(bad + head, to, strlen(to));
    memcpy(bad + head + strlen(to), place + strlen(from), (size_t)tail);
    refused(tokenizer, bad, head + (int64_t)strlen(to) + tail, why);
    free(bad);
    mem_free(text);
}

Test(bpe, rank_files_that_are_damaged)
{
    static const struct { const char *from, *to, *why; } bad[] = {
        { "\ngA== 128\n", "\n", "rank 129" }, { "\ngA== 128\n", "\ngA== 127\n", "rank 127" },
        { "\ngA== 128\n", "\ngQ== 128\n", "id 129 has the bytes of id 128" }, { " 128\n", " 12x\n", "no number" },
        { " 128\n", "\n", "no blank" }, { " 128\n", " \n", "no rank" }, { "\ngA== ", "\ng*== ", "no base64" },
        { "\ngA== ", "\ngA= ", "no base64" }, { "\ngA== ", "\n ", "no base64" }, { "\ngA== ", "\ngB== ", "no base64" },
        { "\ngA== 128\n", "\n\ngA== 128\n", "empty line" }, { " 128\n", " 99999999999999999999\n", "no number" },
        { "AA== 0\n", "AAAAAAAAAAAA 0\n", "no token for byte 0x00" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused_after("bpe", "small.ranks", bad[i].from, bad[i].to, bad[i].why);
    refused("bpe", "", 0, "at least the 256 bytes");
    refused("bpe", "AA== 0\n", 7, "at least the 256 bytes");
    int64_t n;
    unsigned char *text = file_of("small.ranks", &n);
    refused("bpe", (const char *)text, n - 3, "rank");
    refused("o200k", (const char *)text, n, "not those of o200k_base");
    mem_free(text);
}

Test(bpe, the_end_of_a_document_is_named)
{
    struct open o;
    char *path = data("small.json"), *set = xprintf("tokenizer.file=%s", path);
    cr_assert_eq(open_with(&o, (const char *const[]){ "data.tokenizer=huggingface", set, "tokenizer.end=</s>", NULL }), CHI_ECONF);
    cr_assert(strstr(fail_text(), "not among added_tokens"), "%s", fail_text());
    shut(&o);
    free(path);
    free(set);
}

Test(bpe, tokenizer_json_that_is_damaged_or_unknown)
{
    static const struct { const char *from, *to, *why; } bad[] = {
        { "\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\"}", "normalizer NFC" },
        { "\"post_processor\":null", "\"post_processor\":{\"type\":\"TemplateProcessing\"}", "TemplateProcessing" },
        { "\"truncation\":null", "\"truncation\":{\"max_length\":4}", "truncation" },
        { "\"type\":\"BPE\"", "\"type\":\"Unigram\"", "its model is Unigram" },
        { "\"dropout\":null", "\"dropout\":0.1", "model.dropout" },
        { "\"type\":\"Digits\"", "\"type\":\"Whitespace\"", "Whitespace" },
        { "\"MergedWithPrevious\"", "\"Removed\"", "behavior Removed" },
        { "{\"type\":\"ByteLevel\",\"add_prefix_space\":false", "{\"type\":\"ByteLevel\",\"add_prefix_space\":true",
          "add_prefix_space" },
        { "\"vocab\":{", "\"vocab\":{\"zz\":7,", "id 7 to both" }, { "\"vocab\":{", "\"vocab\":{\"zz\":-1,", "whole number" },
        { "\"vocab\":{", "\"vocab\":{\"zz\":1e9,", "whole number" }, { "\"vocab\":{", "\"vocab\":{\"zz\":0.5,", "whole number" },
        { "\"merges\":[", "\"merges\":[\"q q\",", "not in model.vocab" }, { "\"merges\":[", "\"merges\":[7,", "merge 0" },
        { "\"merges\":[", "\"merges\":[\"zq\",", "merge 0" }, { "\"merges\":", "\"other\":", "model.merges" },
        { "\"content\":\"return x\"", "\"content\":\"th\"", "in model.vocab" },
        { "\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":false",
          "\"lstrip\":true,\"rstrip\":false,\"normalized\":false,\"special\":false", "lstrip" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused_after("huggingface", "small.json", bad[i].from, bad[i].to, bad[i].why);
    int64_t n;
    unsigned char *text = file_of("small.json", &n);
    for (int64_t k = 0; k < n - 2; k += n / 20) refused("huggingface", (const char *)text, k, "JSON");
    mem_free(text);
}
