/* test_expressions.c - split expressions that PCRE2 matches: searches that are long, start behind an empty match,
 * or find no memory.                                                                          */
#include <dlfcn.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bpe_rig.h"
#include "core.h"

static bool open_with_expression(struct open *o, const char *expression)
{
    if (!dlopen("libpcre2-8.so.0", RTLD_NOW)) return false;
    char *pre = xprintf("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},"
                        "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                        "\"trim_offsets\":true,\"use_regex\":false}]}", expression);
    open_with_pre(o, pre);
    free(pre);
    return true;
}

/* The text's ids are those of its pieces, each by itself                                             */
static void cut_into(struct tokens *t, const char *const *piece, int n)
{
    char *text = xstrdup("");
    int32_t *all, *some;
    int64_t count, k, at = 0;
    for (int i = 0; i < n; i++) {
        char *longer = xprintf("%s%s", text, piece[i]);
        free(text);
        text = longer;
    }
    cr_assert_eq(tokens_encode(t, (unsigned char *)text, (int64_t)strlen(text), false, &all, &count), CHI_OK, "%s",
                 fail_text());
    for (int i = 0; i < n; at += k, i++) {
        cr_assert_eq(tokens_encode(t, (const unsigned char *)piece[i], (int64_t)strlen(piece[i]), false, &some, &k),
                     CHI_OK);
        cr_assert(at + k <= count && !memcmp(all + at, some, (size_t)k * sizeof *some), "piece %d, %.9s", i,
                  piece[i]);
        free(some);
    }
    cr_assert_eq(at, count);
    free(all);
    free(text);
}

/* 11 million steps back, more than PCRE2 takes by itself, before the first match                     */
Test(expressions, a_search_has_no_limit_of_steps)
{
    struct open o;
    char run[4701];
    if (!open_with_expression(&o, "\\\\A(?:a|b)*(?:a|b)*c|\\\\w+|\\\\W")) cr_skip_test("no PCRE2");
    for (int i = 0; i < 4700; i++) run[i] = "ab"[i % 2];
    run[4700] = 0;
    cut_into(o.t, (const char *const[]){ run, " ", "the", " ", "the", " ", "he" }, 7);
    shut(&o);
}

/* The rules that are done by hand, and the same expressions in a group, which PCRE2 gets: the same pieces of texts of
 * characters, parts of characters and bytes that begin none; U+180E was a space once                  */
#define SUFFIX "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define REST   "\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define FIRST  "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?"
#define SIGNS  " ?[^\\\\s\\\\p{L}\\\\p{N}]+"
#define UPPER  "[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define LOWER  "[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
static const char *const by_hand_too[] = {
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+|" SIGNS "|\\\\s+(?!\\\\S)|\\\\s+",
    SUFFIX "|" FIRST "\\\\p{L}+|\\\\p{N}{1,3}|" SIGNS "[\\\\r\\\\n]*|" REST,
    SUFFIX "|" FIRST "\\\\p{L}+|\\\\p{N}|" SIGNS "[\\\\r\\\\n]*|" REST,
    FIRST UPPER "*" LOWER "+" SUFFIX "?|" FIRST UPPER "+" LOWER "*" SUFFIX "?|\\\\p{N}{1,3}|" SIGNS "[\\\\r\\\\n/]*|" REST,
};

static void same_pieces(struct tokens *by_hand, struct tokens *by_pcre2, uint32_t *state, int parts)
{
    static const char *const part[] = { "a", "he", "T", " ", "  ", "\n", "'s", "/", "12", "!", "\xc3\xa9", "\xc3",
                                        "\xa9", "\xff", "123", "the", "\xe1\xa0\x8e", "\xc2\x85", "'L",
                                        "\xf0\x9f\x98", "\xe2\x82\xac", "\xed\xa0\x80", "\xc0\xaf", "\xe3\x80\x80" };
    char text[1200];
    int64_t n = 0, count[2];
    int32_t *id[2];
    for (int k = 0; k < parts; k++) {
        *state = *state * 1664525u + 1013904223u;
        n += snprintf(text + n, sizeof text - (size_t)n, "%s", part[(*state >> 16) % COUNT(part)]);
    }
    for (int i = 0; i < 2; i++)
        cr_assert_eq(tokens_encode(i ? by_pcre2 : by_hand, (unsigned char *)text, n, false, &id[i], &count[i]), CHI_OK,
                     "%s", fail_text());
    cr_assert(count[0] == count[1] && !memcmp(id[0], id[1], (size_t)count[0] * sizeof *id[0]), "%s", text);
    free(id[0]), free(id[1]);
}

Test(expressions, what_is_done_by_hand_is_what_pcre2_does)
{
    uint32_t state = 1;
    for (int64_t e = 0; e < COUNT(by_hand_too); e++) {
        struct open by_hand, by_pcre2;
        char *group = xprintf("(?:%s)", by_hand_too[e]);
        if (!open_with_expression(&by_hand, by_hand_too[e])) cr_skip_test("no PCRE2");
        open_with_expression(&by_pcre2, group);
        for (int i = 0; i < 1000; i++) same_pieces(by_hand.t, by_pcre2.t, &state, i % 100 ? 12 : 300);
        free(group);
        shut(&by_hand), shut(&by_pcre2);
    }
}

/* \uHHHH is a character, \w has those of all scripts, and ^ stands at each line                       */
Test(expressions, words_of_the_other_library)
{
    static const struct { const char *expression, *piece[3]; } of[] = {
        { "(?<=\\\\u00e9)th", { "\xc3\xa9", "th", "e" } }, { "(?<=\\\\w)th", { "\xc3\xa9", "th", "e" } },
        { "^th", { "a\n", "th", "e" } },
    };
    for (int64_t i = 0; i < COUNT(of); i++) {
        struct open o;
        if (!open_with_expression(&o, of[i].expression)) cr_skip_test("no PCRE2");
        cut_into(o.t, of[i].piece, 3);
        shut(&o);
    }
}

/* From within a character PCRE2's own search, unlike its JIT, does not see what lies before             */
Test(expressions, behind_an_empty_match_a_character_begins)
{
    static const char *const expression[] = { "(?<=\\u00e9)th|x*", "(*NO_JIT)(?<=\\u00e9)th|x*" };
    for (int i = 0; i < 2; i++) {
        struct open o;
        if (!open_with_expression(&o, expression[i])) cr_skip_test("no PCRE2");
        cut_into(o.t, (const char *const[]){ "\xc3\xa9", "th", "e" }, 3);
        shut(&o);
    }
}

Test(expressions, a_search_without_memory_is_no_piece)
{
    enum { RUN = 3000000, ROOM = 100 << 20 };
    struct open o;
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    cr_assert(f && fscanf(f, "%ld", &pages) == 1);
    fclose(f);
    if (pages > 1 << 24) cr_skip_test("a sanitizer has all addresses");
    if (!open_with_expression(&o, "(?:\\\\p{L})+")) cr_skip_test("no PCRE2");
    rlim_t most = (rlim_t)(pages * sysconf(_SC_PAGESIZE) + ROOM);
    unsigned char *text = malloc(RUN);
    int32_t *id;
    int64_t n;
    memset(text, 'a', RUN);
    setrlimit(RLIMIT_AS, &(struct rlimit){ most, most });
    cr_assert_eq(tokens_encode(o.t, text, RUN, false, &id, &n), CHI_ENOMEM);
    cr_assert(strstr(fail_text(), "memory to cut a text of 3000000 bytes"), "%s", fail_text());
    cut_into(o.t, (const char *const[]){ "the", " ", "he" }, 3);
    free(text);
    shut(&o);
}
