/* Every cut of a text into tokens gives what the whole string gives.              */
#include "text_out.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

struct buffer { char b[4096]; int64_t n; bool broken; };

/* Each call must hand over whole characters                                       */
static chi_status sink(void *ctx, const char *bytes, int64_t n)
{
    struct buffer *t = ctx;
    for (int64_t i = 0; i < n;) {
        unsigned char c = (unsigned char)bytes[i];
        i += c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
        if (i > n) t->broken = true;
    }
    memcpy(t->b + t->n, bytes, (size_t)n);
    t->n += n;
    return CHI_OK;
}

/* Where the text ends: before the longest of the stop strings that end first      */
static int64_t cut_at(const char *text, int64_t n, const char *const *stop, int n_stop)
{
    for (int64_t end = 1; end <= n; end++) {
        int64_t longest = 0;
        for (int i = 0; i < n_stop; i++) {
            int64_t k = (int64_t)strlen(stop[i]);
            if (k <= end && !memcmp(text + end - k, stop[i], (size_t)k) && k > longest) longest = k;
        }
        if (longest) return end - longest;
    }
    return n;
}

/* Length of the well-formed character at p, or minus the length of the longest start of
 * one that is no whole one: a table of Unicode's well-formed sequences            */
static int character(const unsigned char *p, int64_t n)
{
    static const unsigned char form[][9] = {
        { 1, 0x00, 0x7f }, { 2, 0xc2, 0xdf, 0x80, 0xbf }, { 3, 0xe0, 0xe0, 0xa0, 0xbf, 0x80, 0xbf },
        { 3, 0xe1, 0xec, 0x80, 0xbf, 0x80, 0xbf }, { 3, 0xed, 0xed, 0x80, 0x9f, 0x80, 0xbf },
        { 3, 0xee, 0xef, 0x80, 0xbf, 0x80, 0xbf }, { 4, 0xf0, 0xf0, 0x90, 0xbf, 0x80, 0xbf, 0x80, 0xbf },
        { 4, 0xf1, 0xf3, 0x80, 0xbf, 0x80, 0xbf, 0x80, 0xbf },
        { 4, 0xf4, 0xf4, 0x80, 0x8f, 0x80, 0xbf, 0x80, 0xbf }
    };
    int part = 1;
    for (int f = 0; f < 9; f++) {
        int k = 0;
        while (k < form[f][0] && k < n && p[k] >= form[f][1 + 2 * k] && p[k] <= form[f][2 + 2 * k]) k++;
        if (k == form[f][0]) return k;
        if (k > part) part = k;
    }
    return -part;
}

static int64_t valid(const char *text, int64_t n, char *out)
{
    int64_t m = 0;
    for (int64_t i = 0; i < n;) {
        int k = character((const unsigned char *)text + i, n - i);
        memcpy(out + m, k > 0 ? text + i : "\xef\xbf\xbd", k > 0 ? (size_t)k : 3);
        m += k > 0 ? k : 3;
        i += k > 0 ? k : -k;
    }
    return m;
}

/* Feeds text cut after every byte whose bit is set in cuts (bit i: after byte i)  */
static void check(const char *text, int64_t n, uint64_t cuts, const char *const *stop, int n_stop)
{
    char want[4096];
    struct buffer got = { .n = 0 };
    struct text_out t;
    int64_t end = cut_at(text, n, stop, n_stop), m = valid(text, end, want), from = 0;
    cr_assert_eq(text_out_open(&t, stop, n_stop, sink, &got), CHI_OK);
    for (int64_t i = 0; i < n; i++)
        if (i + 1 == n || cuts >> (i % 64) & 1) {
            cr_assert_eq(text_out_put(&t, (const unsigned char *)text + from, i + 1 - from), CHI_OK);
            from = i + 1;
        }
    cr_assert_eq(t.stopped, end < n);
    cr_assert_eq(text_out_end(&t), CHI_OK);
    text_out_close(&t);
    cr_assert(!got.broken);
    cr_assert(got.n == m && !memcmp(got.b, want, (size_t)m), "'%.*s' cut by %llx: '%.*s', not '%.*s'",
              (int)n, text, (unsigned long long)cuts, (int)got.n, got.b, (int)m, want);
}

Test(text_out, every_cut_gives_the_whole_string)
{
    static const char *const texts[] = {
        "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x99\x82z", "x\xe2\x82", "\xf0\x9f\x99", "ab\xff" "cd\xc3",
        "\xe2\x82\xe2\x82\xac",
        "\xed\xa0\x80!", "\xc0\x80\xe0\x80\x80", "\xf4\x90\x80\x80", "aabaabaab", "abcabd",
        "\xe2\x82\xac" "STOP\xc3\xa4",
        "ababababac", "xSTOSTOPy", "\xe2STOP"
    };
    static const char *const stops[] = { "STOP", "aabaac", "abd", "ababac", "b", "\xc3\xa4", "cab", "\xac" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int64_t n = (int64_t)strlen(texts[i]);
        for (uint64_t cuts = 0; cuts < 1u << (n - 1); cuts++) {
            check(texts[i], n, cuts, NULL, 0);
            check(texts[i], n, cuts, stops, 1);
            check(texts[i], n, cuts, stops, 4);
            check(texts[i], n, cuts, stops + 2, 6);
        }
    }
}

Test(text_out, random_bytes_with_random_stops)
{
    static const unsigned char letter[] = { 'a', 'b', 'a', 'b', 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0xc3, 0 };
    uint64_t x = 88172645463325252u;
    for (int turn = 0; turn < 20000; turn++) {
        char text[48], stop[3][8] = { { 0 } };
        for (int i = 0; i < 48; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            text[i] = (char)letter[x % sizeof letter];
        }
        for (int s = 0; s < 3; s++)
            for (int i = 0; i < 2 + (int)(x >> (8 * s) & 3); i++)
                stop[s][i] = (char)letter[(x >> (5 * i + 7 * s)) % (sizeof letter - 1)];
        const char *const stops[] = { stop[0], stop[1], stop[2] };
        check(text, 48, x * 0x9e3779b97f4a7c15u, stops, turn % 4);
    }
}

Test(text_out, nothing_waits_that_could_go)
{
    static const char *const stop[] = { "abc" };
    struct buffer got = { .n = 0 };
    struct text_out t;
    cr_assert_eq(text_out_open(&t, stop, 1, sink, &got), CHI_OK);
    cr_assert_eq(text_out_put(&t, (const unsigned char *)"xyab", 4), CHI_OK);
    cr_assert_eq(got.n, 2);             /* "ab" waits                              */
    cr_assert_eq(text_out_put(&t, (const unsigned char *)"a", 1), CHI_OK);
    cr_assert_eq(got.n, 4);             /* "a" waits                               */
    cr_assert_eq(text_out_end(&t), CHI_OK);
    cr_assert_eq(got.n, 5);
    cr_assert(!memcmp(got.b, "xyaba", 5));
    text_out_close(&t);
}

Test(text_out, what_waits_restores_the_state)
{
    static const char *const stop[] = { "\xe2\x82\xac..", "bcd" };
    static const char text[] = "a\xe2\x82\xac.\xc3\xa4 bc\xf0\x9f\x99\x82 bcd no";
    for (int64_t at = 0; at < (int64_t)sizeof text; at++) {
        struct buffer got = { .n = 0 };
        struct text_out a, b;
        unsigned char wait[TEXT_WAITING];
        cr_assert_eq(text_out_open(&a, stop, 2, sink, &got), CHI_OK);
        cr_assert_eq(text_out_open(&b, stop, 2, sink, &got), CHI_OK);
        cr_assert_eq(text_out_put(&a, (const unsigned char *)text, at), CHI_OK);
        if (!a.stopped) {
            int64_t n = text_out_waiting(&a, wait);
            cr_assert_eq(text_out_put(&b, wait, n), CHI_OK);
            const unsigned char *rest = (const unsigned char *)text + at;
            cr_assert_eq(text_out_put(&b, rest, (int64_t)sizeof text - 1 - at), CHI_OK);
            cr_assert_eq(text_out_end(&b), CHI_OK);
        }
        int64_t want = strstr(text, "bcd") - text;
        cr_assert(got.n == want && !memcmp(got.b, text, (size_t)want), "cut at %d", (int)at);
        text_out_close(&a);
        text_out_close(&b);
    }
}

Test(text_out, refuses_stop_strings_that_cannot_match)
{
    struct text_out t;
    char longer[STOP_MAX + 2];
    memset(longer, 'a', sizeof longer);
    longer[STOP_MAX + 1] = 0;
    cr_assert_eq(text_out_open(&t, (const char *const[]){ "" }, 1, sink, NULL), CHI_ECONF);
    cr_assert_eq(text_out_open(&t, (const char *const[]){ longer }, 1, sink, NULL), CHI_ECONF);
    check(longer + 1, STOP_MAX, 0, (const char *const[]){ longer + 1 }, 1);
}
