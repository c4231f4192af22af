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

/* The rule of o200k, which is done by hand, and the same expression in a group, which PCRE2 gets: the same pieces of
 * texts of characters, parts of characters and bytes that begin none                              */
Test(expressions, invalid_bytes_are_signs_for_both)
{
    static const char *const part[] = { "a", "he", "T", " ", "  ", "\n", "'s", "/", "12", "!", "\xc3\xa9", "\xc3",
                                        "\xa9", "\xff",
                                        "\xf0\x9f\x98", "\xe2\x82\xac", "\xed\xa0\x80", "\xc0\xaf", "\xe3\x80\x80" };
    static const char expression[] = "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]*"
        "[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]+"
        "[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\\\p{N}{1,3}| "
        "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n/]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+";
    struct open by_hand, by_pcre2;
    char *group = xprintf("(?:%s)", expression), text[1024];
    if (!open_with_expression(&by_hand, expression) || !open_with_expression(&by_pcre2,
                                                                             group)) cr_skip_test("no PCRE2");
    uint32_t state = 1;
    for (int i = 0; i < 3000; i++) {
        int64_t n = 0, many = i % 100 ? 12 : 300, count[2];
        int32_t *id[2];
        for (int64_t k = 0; k < many; k++) {
            state = state * 1664525u + 1013904223u;
            n += snprintf(text + n, sizeof text - (size_t)n, "%s", part[(state >> 16) % COUNT(part)]);
        }
        cr_assert_eq(tokens_encode(by_hand.t, (unsigned char *)text, n, false, &id[0], &count[0]), CHI_OK, "%s",
                     fail_text());
        cr_assert_eq(tokens_encode(by_pcre2.t, (unsigned char *)text, n, false, &id[1], &count[1]), CHI_OK, "%s",
                     fail_text());
        cr_assert(count[0] == count[1] && !memcmp(id[0], id[1], (size_t)count[0] * sizeof *id[0]), "text %d: %s", i,
                  text);
        free(id[0]), free(id[1]);
    }
    free(group);
    shut(&by_hand), shut(&by_pcre2);
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
