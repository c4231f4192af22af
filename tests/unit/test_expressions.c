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
    cr_assert_eq(tokens_encode(t, (unsigned char *)text, (int64_t)strlen(text), false, &all, &count), CHI_OK, "%s", fail_text());
    for (int i = 0; i < n; at += k, i++) {
        cr_assert_eq(tokens_encode(t, (const unsigned char *)piece[i], (int64_t)strlen(piece[i]), false, &some, &k), CHI_OK);
        cr_assert(at + k <= count && !memcmp(all + at, some, (size_t)k * sizeof *some), "piece %d, %.9s", i, piece[i]);
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

Test(expressions, behind_an_empty_match_a_character_begins)
{
    struct open o;
    if (!open_with_expression(&o, "(?<=\\u00e9)th|x*")) cr_skip_test("no PCRE2");
    cut_into(o.t, (const char *const[]){ "\xc3\xa9", "th", "e" }, 3);
    shut(&o);
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
