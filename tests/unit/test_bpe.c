/* test_bpe.c - byte-level BPE: ids that other implementations gave to the same texts and vocabularies
 * (tests/data/tokenizers, written by tests/tokenizers/fixture.js), any bytes there and back, long pieces,
 * special tokens, and files that are not what they should be.                                 */
#include <dlfcn.h>
#include <unistd.h>

#include "bpe_rig.h"
#include "core.h"
#include "fs.h"
#include "json.h"

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

Test(bpe, behaviours_of_split)
{
    int64_t n;
    unsigned char *text = file_of("small_split.jsonl", &n), *end = text + n;
    void *library = dlopen("libpcre2-8.so.0", RTLD_NOW);
    int seen = 0;
    for (unsigned char *line = text, *eol; line < end; line = eol + 1) {
        cJSON *j;
        struct open o;
        eol = memchr(line, '\n', (size_t)(end - line));
        cr_assert(eol);
        cr_assert_eq(json_parse("line", (const char *)line, eol - line, 4, &j), CHI_OK, "%s", fail_text());
        if (library || strncmp(json_text(j, "name"), "Regex", 5) != 0) {
            open_with_pre(&o, json_text(j, "pre"));
            same_ids(o.t, j);
            shut(&o);
            seen++;
        }
        cJSON_Delete(j);
    }
    cr_assert_geq(seen, 30);
    mem_free(text);
}

/* ---- any bytes -------------------------------------------------------------------------------------- */

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

/* A long text remembers ranks of pairs, short ones do not: the same ids.  Tokens at random make all sorts of pairs   */
Test(bpe, a_long_text_has_the_ids_of_its_pieces)
{
    enum { LONG = 400000 };
    struct open o;
    uint32_t s = 3;
    int64_t n = 0, count, at = 0;
    int32_t *all;
    unsigned char *text = malloc(LONG + 300);
    open_file(&o, "bpe", "small.ranks", NULL);
    while (n < LONG) {
        const unsigned char *bytes;
        int64_t m = tokens_decode(o.t, (int32_t)((random_bits(&s) >> 12) % 699), &bytes);
        memcpy(text + n, bytes, (size_t)m);
        n += m;
    }
    cr_assert_eq(tokens_encode(o.t, text, n, false, &all, &count), CHI_OK, "%s", fail_text());
    for (int64_t i = 0, m; i < n; i += m) {
        int32_t *some;
        int64_t k;
        m = tokens_piece(o.t, text + i, n - i);
        cr_assert_eq(tokens_encode(o.t, text + i, m, false, &some, &k), CHI_OK, "%s", fail_text());
        cr_assert(at + k <= count && !memcmp(all + at, some, (size_t)k * sizeof *some), "from byte %lld", (long long)i);
        at += k;
        free(some);
    }
    cr_assert_eq(at, count);
    free(all);
    free(text);
    shut(&o);
}

/* The id of two tokens' bytes together, or -1, by looking at all of them                              */
static int32_t join_of(struct tokens *t, int32_t left, int32_t right)
{
    unsigned char text[600];
    const unsigned char *bytes;
    int64_t n = tokens_decode(t, left, &bytes);
    memcpy(text, bytes, (size_t)n);
    int64_t m = tokens_decode(t, right, &bytes);
    memcpy(text + n, bytes, (size_t)m);
    for (int32_t i = 256; i < tokens_end(t); i++)
        if (tokens_decode(t, i, &bytes) == n + m && !memcmp(bytes, text, (size_t)(n + m))) return i;
    return -1;
}

/* BPE as it is defined; ids in id, their number returned                                              */
static int64_t plainly(struct tokens *t, const unsigned char *text, int64_t n, int32_t *id)
{
    for (int64_t i = 0; i < n; i++)
        for (int32_t b = 0; b < 256; b++) {
            const unsigned char *bytes;
            tokens_decode(t, b, &bytes);
            if (*bytes == text[i]) id[i] = b;
        }
    for (;;) {
        int64_t best = -1;
        int32_t rank = INT32_MAX;
        for (int64_t i = 0; i + 1 < n; i++) {
            int32_t j = join_of(t, id[i], id[i + 1]);
            if (j >= 0 && j < rank) rank = j, best = i;
        }
        if (best < 0) return n;
        id[best] = rank;
        n--;
        for (int64_t i = best + 1; i < n; i++) id[i] = id[i + 1];
    }
}

Test(bpe, the_heap_does_what_the_definition_says)
{
    enum { LONG = 60 };
    struct open o;
    uint32_t s = 5;
    open_file(&o, "bpe", "small.ranks", "tokenizer.split=none");
    for (int k = 0; k < 60; k++) {
        unsigned char text[LONG];
        int32_t want[LONG], *id;
        int64_t n = 0;
        while (n < LONG) {
            const unsigned char *bytes;
            int64_t more = min_i64(tokens_decode(o.t, (int32_t)((random_bits(&s) >> 12) % 443 + 256), &bytes), LONG - n);
            memcpy(text + n, bytes, (size_t)more);
            n += more;
        }
        int64_t m = plainly(o.t, text, LONG, want);
        cr_assert_eq(tokens_encode(o.t, text, LONG, false, &id, &n), CHI_OK, "%s", fail_text());
        cr_assert(n == m && !memcmp(id, want, (size_t)n * sizeof *id), "text %d", k);
        free(id);
    }
    shut(&o);
}

/* 2 MB of one letter would take hours if anything were quadratic                                        */
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

/* A piece of 2 MB wants 64 MB of work, which count like all other memory                                  */
Test(bpe, working_memory_is_counted)
{
    enum { LONG = 2000000 };
    struct open o;
    int32_t *id;
    int64_t n, used = mem_used();
    open_file(&o, "bpe", "small.ranks", "tokenizer.split=none");
    unsigned char *text = malloc(LONG);
    memset(text, 'l', LONG);
    mem_limit(mem_used() + 60000000);
    cr_assert_eq(tokens_encode(o.t, text, LONG, false, &id, &n), CHI_ENOMEM);
    cr_assert(strstr(fail_text(), "working memory"), "%s", fail_text());
    free(text);
    shut(&o);
    cr_assert_eq(mem_used(), used);
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
        const unsigned char *none;
        cr_assert_eq(tokens_decode(o.t, 699, &none), 0, "the end of a document has bytes");
        shut(&o);
    }
}

Test(bpe, the_longest_added_token_at_a_place)
{
    static const char *const change[][2] = { { "\"added_tokens\":[", "\"added_tokens\":[{\"id\":702,\"content\":\"retur\"},"
                                               "{\"id\":703,\"content\":\"return x y\"}," } };
    struct open o;
    open_changed(&o, change, 1, NULL);
    cr_assert_eq(count_id(o.t, "return x", 701), 1);
    cr_assert_eq(count_id(o.t, "return x y", 703), 1);
    cr_assert_eq(count_id(o.t, "return", 702), 1);
    shut(&o);
}

/* The library looks for tokens that are not normalized first: qxyz is no 702                          */
Test(bpe, normalized_added_tokens_come_last)
{
    static const char *const change[][2] = { { "\"added_tokens\":[", "\"added_tokens\":[{\"id\":702,\"content\":\"qxy\","
                                               "\"normalized\":true},{\"id\":703,\"content\":\"yz\"},{\"id\":704,"
                                               "\"content\":\"yzz\",\"normalized\":true}," } };
    struct open o;
    open_changed(&o, change, 1, NULL);
    cr_assert_eq(count_id(o.t, "aqxyzz", 703), 1);
    cr_assert_eq(count_id(o.t, "aqxyzz", 702), 0);
    cr_assert_eq(count_id(o.t, "aqxyzz qxyy", 702), 1);
    cr_assert_eq(count_id(o.t, "ayzzb", 703), 1, "though yzz is longer");
    shut(&o);
}

/* What a file names is another number where a text has other ids, though the tokens have the same bytes.  Older
 * files name the bytes alone                                                                       */
Test(bpe, other_rules_are_another_vocabulary)
{
    static const char *const change[][1][2] = {
        { { "\"\u010a \u010a\",\"r e\"", "\"r e\",\"\u010a \u010a\"" } },                     /* two merges         */
        { { "\"individual_digits\":true", "\"individual_digits\":false" } }, { { "{1,3}", "{1,2}" } },
        { { "\"MergedWithPrevious\"", "\"MergedWithNext\"" } }, { { "{\"String\":\"/\"}", "{\"String\":\"_\"}" } },
        { { "\"ignore_merges\":false", "\"ignore_merges\":true" } },
        { { "\"return x\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false",
            "\"return x\",\"normalized\":true" } },
    };
    struct open first, again, o;
    open_file(&first, "huggingface", "small.json", NULL);
    open_file(&again, "huggingface", "small.json", "tokenizer.special=yes");
    struct vocabulary was = tokens_vocabulary(first.t), now = tokens_vocabulary(again.t);
    cr_expect(now.all == was.all && now.bytes == was.bytes, "the same file");
    for (int i = 0; i < (int)COUNT(change); i++) {
        open_changed(&o, change[i], 1, NULL);
        now = tokens_vocabulary(o.t);
        cr_expect_eq(now.bytes, was.bytes, "change %d has the same tokens", i);
        cr_expect_eq(vocabulary_check(o.spec, now, "old", was.bytes), CHI_OK, "change %d", i);
        cr_expect_eq(vocabulary_check(o.spec, now, "new", was.all), CHI_EDATA, "change %d", i);
        cr_expect_eq(vocabulary_check(o.spec, now, "new", now.all), CHI_OK, "change %d", i);
        shut(&o);
    }
    shut(&first), shut(&again);
}

/* The 256 bytes and these lines                                                                     */
static void open_ranks(struct open *o, const char *lines)
{
    int64_t n;
    char path[] = "/tmp/chimera-bpe.XXXXXX";
    unsigned char *text = file_of("small.ranks", &n);
    char *more = memmem(text, (size_t)n, " 255\n", 5);
    int fd = mkstemp(path);
    cr_assert(more && fd >= 0 && fs_write_all(fd, text, more + 5 - (char *)text)
              && fs_write_all(fd, lines, (int64_t)strlen(lines)));
    close(fd);
    char *set = xprintf("tokenizer.file=%s", path);
    cr_assert_eq(open_with(o, (const char *const[]){ "data.tokenizer=bpe", set, "tokenizer.split=none", NULL }), CHI_OK, "%s",
                 fail_text());
    remove(path);
    free(set);
    mem_free(text);
}

static void has_ids(struct tokens *t, const char *text, int64_t n, const int32_t *want)
{
    int32_t *id;
    int64_t count;
    cr_assert_eq(tokens_encode(t, (const unsigned char *)text, (int64_t)strlen(text), false, &id, &count), CHI_OK, "%s",
                 fail_text());
    cr_assert(count >= n && !memcmp(id, want, (size_t)n * sizeof *want), "%s", text);
    free(id);
}

/* A piece that is a token is that token, though no joins lead to it: as tiktoken reads such files   */
Test(bpe, a_piece_that_is_a_token)
{
    struct open o;
    open_ranks(&o, "cXF4eHFx 256\n");
    has_ids(o.t, "qqxxqq", 1, (const int32_t[]){ 256 });
    shut(&o);
}

/* The same in a tokenizer.json, if it says so                                                       */
Test(bpe, ignore_merges)
{
    static const char *const change[2][2] = { { "\"vocab\":{", "\"vocab\":{\"qqxxqq\":702," },
                                              { "\"ignore_merges\":false", "\"ignore_merges\":true" } };
    for (int asked = 0; asked < 2; asked++) {
        struct open o;
        open_changed(&o, change, 1 + asked, NULL);
        cr_assert_eq(count_id(o.t, "qqxxqq", 702), asked);
        shut(&o);
    }
}

/* A join counts by its place among the merges, whatever ids it makes                                 */
Test(bpe, merges_have_the_rank_of_their_place)
{
    static const char *const change[2][2] = { { "\"vocab\":{", "\"vocab\":{\"qx\":703,\"xz\":702," },
                                              { "\"merges\":[", "\"merges\":[\"q x\",\"x z\"," } };
    struct open o;
    open_changed(&o, change, 2, NULL);
    cr_assert_eq(count_id(o.t, "qxz", 703), 1);
    cr_assert_eq(count_id(o.t, "qxz", 702), 0);
    cr_assert_eq(count_id(o.t, "xz", 702), 1);
    shut(&o);
}

/* bc is joined first, and a has no b any more: za comes before a bc.  The heap still knows ab         */
Test(bpe, pairs_that_are_no_more)
{
    struct open o;
    open_ranks(&o, "YmM= 256\nYWI= 257\nemE= 258\nYWJj 259\n");
    has_ids(o.t, "zabc", 2, (const int32_t[]){ 258, 256 });
    has_ids(o.t, "zabcqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq", 2, (const int32_t[]){ 258, 256 });
    shut(&o);
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
        { " 128\n", "\n", "no blank" }, { " 128\n", " 128\r\n", "no number" }, { " 128\n", " \n", "no rank" }, { "\ngA== ", "\ng*== ", "no base64" },
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
    char *path = data_path("small.json"), *set = xprintf("tokenizer.file=%s", path);
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
        { "\"padding\":null", "\"padding\":{\"pad_id\":0}", "padding" },
        { "\"type\":\"BPE\"", "\"type\":\"Unigram\"", "its model is Unigram" },
        { "\"dropout\":null", "\"dropout\":0.1", "model.dropout" },
        { "\"byte_fallback\":false", "\"byte_fallback\":true", "model.byte_fallback" },
        { "\"continuing_subword_prefix\":null", "\"continuing_subword_prefix\":\"##\"", "model.continuing_subword_prefix" },
        { "\"end_of_word_suffix\":null", "\"end_of_word_suffix\":\"</w>\"", "model.end_of_word_suffix" },
        { "\"content\":\"return x\",\"single_word\":false", "\"content\":\"return x\",\"single_word\":true", "single_word" },
        { "\"rstrip\":false,\"normalized\":false,\"special\":false", "\"rstrip\":true,\"normalized\":false,\"special\":false",
          "rstrip" },
        { "\"type\":\"Digits\"", "\"type\":\"Whitespace\"", "Whitespace" },
        { "\"MergedWithPrevious\"", "\"Removed\"", "behavior Removed" },
        { "{\"type\":\"ByteLevel\",\"add_prefix_space\":false", "{\"type\":\"ByteLevel\",\"add_prefix_space\":true",
          "add_prefix_space" },
        { "\"MergedWithPrevious\",\"invert\":false", "\"MergedWithPrevious\",\"invert\":true", "with invert" },
        { "\"use_regex\":false}]}", "\"use_regex\":false},{\"type\":\"Digits\"}]}", "behind ByteLevel" },
        { "\"vocab\":{", "\"vocab\":{\"zz\":7,", "id 7 to both" }, { "\"vocab\":{", "\"vocab\":{\"zz\":-1,", "whole number" },
        { "\"vocab\":{", "\"vocab\":{\"zz\":1e9,", "whole number" }, { "\"vocab\":{", "\"vocab\":{\"zz\":0.5,", "whole number" },
        { "\"vocab\":{", "\"vocab\":{\"a\\nb\":702,", "a?b, is not written" },
        { "\"merges\":[", "\"merges\":[\"q q\",", "not in model.vocab" }, { "\"merges\":[", "\"merges\":[7,", "merge 0" },
        { "\"merges\":[", "\"merges\":[\"zq\",", "merge 0" }, { "\"merges\":", "\"other\":", "model.merges" },
        { "\"content\":\"return x\"", "\"content\":\"th\"", "in model.vocab" },
        { "\"id\":701,\"content\":\"return x\"", "\"id\":300,\"content\":\"return x\"", "has id 300, which is" },
        { "\"id\":701,\"content\":\"return x\"", "\"id\":700,\"content\":\"return x\"",
          "id 700, which is <|im_start|> already" },
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
