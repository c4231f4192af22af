/* test_core.c - errors, suggestions, counted memory, numbers for people.         */
#include "core.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <errno.h>
#include <string.h>

static chi_status twice(void)
{
    TRY(CHI_OK);
    TRY(fail(CHI_EDATA, "row %d of %s", 7, "x"));
    return fail(CHI_EIO, "never reached");
}

Test(core, a_failure_says_why_once_and_is_passed_on)
{
    cr_assert_eq(twice(), CHI_EDATA);
    cr_assert_str_eq(fail_text(), "row 7 of x");
    cr_assert_eq(fail(CHI_EIO, "again: %s", fail_text()), CHI_EIO);
    cr_assert_str_eq(fail_text(), "again: row 7 of x");
}

Test(core, a_long_failure_is_kept_whole)
{
    char *a = xcalloc(10001, 1);
    memset(a, 'a', 10000);
    fail(CHI_EIO, "%s!", a);
    cr_assert_eq(strlen(fail_text()), 10001);
    free(a);
}

Test(core, errno_text_is_added_and_a_full_disk_is_its_own_status)
{
    errno = ENOENT;
    cr_assert_eq(fail_errno(CHI_EIO, "open %s", "f"), CHI_EIO);
    cr_assert_str_eq(fail_text(), "open f: No such file or directory");
    errno = ENOSPC;
    cr_assert_eq(exit_code(fail_errno(CHI_EIO, "write")), 5);
    errno = EFBIG;
    cr_assert_eq(exit_code(fail_errno(CHI_EIO, "write")), 5);
}

Test(core, exit_codes_are_the_documented_ones)
{
    const struct { chi_status s; int code; } want[] = {
        { CHI_OK, 0 }, { CHI_EIO, 1 }, { CHI_ENUMERIC, 1 }, { CHI_EREFUSED, 1 }, { CHI_EBUG, 1 },
        { CHI_ENOTSUP, 1 }, { CHI_ECONF, 2 }, { CHI_ESHAPE, 2 }, { CHI_EDATA, 3 }, { CHI_EPLUGIN, 4 },
        { CHI_ENOMEM, 5 } };
    for (int i = 0; i < COUNT(want); i++) cr_expect_eq(exit_code(want[i].s), want[i].code, "%d", want[i].s);
}

Test(core, closest_finds_slips_and_nothing_else)
{
    const char *const names[] = { "num_heads", "head_dim", "chunk", "key_norm", "lr", NULL };
    const struct { const char *word, *want; } t[] = {
        { "num_head", "num_heads" }, { "nmu_heads", "num_heads" }, { "heads_dim", "head_dim" },
        { "chnuk", "chunk" }, { "keynorm", "key_norm" }, { "rl", "lr" }, { "chunk", "chunk" },
        { "xyz", NULL }, { "q", NULL }, { "", NULL }, { "temperature", NULL } };
    for (int i = 0; i < COUNT(t); i++) {
        const char *got = closest(t[i].word, names);
        if (t[i].want) cr_expect(got && !strcmp(got, t[i].want), "%s -> %s", t[i].word, got ? got : "nothing");
        else cr_expect_null(got, "%s -> %s", t[i].word, got);
    }
    const char *const none[] = { NULL };
    cr_assert_null(closest("word", none));
}

Test(core, closest_takes_no_word_of_any_length_for_a_slip)
{
    const char *const names[] = { "num_heads", NULL };
    for (size_t n = 30; n < 12000; n += 997) {
        char *w = xcalloc(n + 1, 1);
        memset(w, 'z', n);
        cr_expect_null(closest(w, names), "%zu", n);
        free(w);
    }
}

Test(core, memory_is_zeroed_aligned_counted_and_given_back)
{
    const size_t sizes[] = { 0, 1, 63, 64, 65, 4096, (4 << 20) - 64, 4 << 20, (9 << 20) + 3 };
    int64_t before = mem_used();
    for (int i = 0; i < COUNT(sizes); i++) {
        unsigned char *p = mem_take(sizes[i], "a test");
        cr_assert_not_null(p);
        cr_expect_eq((uintptr_t)p % 64, 0);
        cr_expect_geq(mem_used() - before, (int64_t)sizes[i]);
        for (size_t j = 0; j < sizes[i]; j++) cr_assert_eq(p[j], 0);
        memset(p, 0xa5, sizes[i]);
        mem_free(p);
        cr_expect_eq(mem_used(), before);
    }
    mem_free(NULL);
}

Test(core, the_limit_refuses_before_allocating)
{
    mem_limit(1 << 20);
    void *a = mem_take(600 << 10, "first");
    cr_assert_not_null(a);
    int64_t used = mem_used(), rss = rss_bytes();
    cr_assert_null(mem_take(600 << 10, "second"));
    cr_assert(strstr(fail_text(), "second") && strstr(fail_text(), "run.memory_limit_mb"), "%s", fail_text());
    cr_assert_eq(mem_used(), used);
    cr_assert_null(mem_take((size_t)1 << 40, "huge"));
    cr_assert_lt(rss_bytes() - rss, 1 << 20);
    cr_assert_eq(mem_check(300 << 10, "third"), CHI_OK);
    cr_assert_eq(mem_check(500 << 10, "third"), CHI_ENOMEM);
    mem_free(a);
    cr_assert_eq(mem_check(500 << 10, "third"), CHI_OK);
}

Test(core, absurd_sizes_are_refused_without_wrapping)
{
    const size_t sizes[] = { SIZE_MAX, SIZE_MAX - 63, SIZE_MAX - 64, SIZE_MAX / 2, (size_t)1 << 60 };
    for (int i = 0; i < COUNT(sizes); i++) {
        cr_expect_null(mem_take(sizes[i], "absurd"));
        cr_expect(strstr(fail_text(), "absurd"));
    }
    cr_expect_eq(mem_used(), 0);
}

Test(core, the_machine_has_some_memory)
{
    cr_assert_gt(mem_available(), 1 << 20);
    cr_assert_gt(rss_bytes(), 1 << 16);
    cr_assert_eq(mem_check(INT64_MAX / 2, "everything"), CHI_ENOMEM);
}

Test(core, bytes_for_people)
{
    const struct { int64_t n; const char *want; } t[] = {
        { 0, "0 bytes" }, { 999, "999 bytes" }, { 1000, "1.0 kB" }, { 1500000, "1.5 MB" },
        { 9960, "10 kB" }, { 999600, "1.0 MB" }, { 123456789, "123 MB" }, { 5000000000000, "5.0 TB" } };
    char s[32];
    for (int i = 0; i < COUNT(t); i++) {
        human_bytes(s, t[i].n);
        cr_expect_str_eq(s, t[i].want);
    }
    human_bytes(s, INT64_MAX);
}

Test(core, counts_for_people)
{
    const struct { int64_t n; const char *want; } t[] = {
        { 0, "0" }, { 999, "999" }, { 1000, "1.00 k" }, { 5780000, "5.78 M" }, { 999999, "1.00 M" },
        { 2650000000, "2.65 G" } };
    char s[32];
    for (int i = 0; i < COUNT(t); i++) {
        human_count(s, t[i].n);
        cr_expect_str_eq(s, t[i].want);
    }
}

Test(core, small_helpers)
{
    cr_expect_eq(ceil_div(7, 3), 3);
    cr_expect_eq(round_up(65, 64), 128);
    cr_expect_eq(round_up(64, 64), 64);
    cr_expect_eq(xxh3("", 0), 0x2d06800538d394c2u);       /* XXH3-64 of nothing, seed 0 */
    cr_expect_neq(xxh3("a", 1), xxh3("b", 1));
    double t = now_s();
    cr_expect_geq(now_s(), t);
    char *s = xprintf("%d-%s", 5, "x");
    cr_expect_str_eq(s, "5-x");
    free(s);
}

Test(core, messages_go_to_stderr_and_to_the_log, .init = cr_redirect_stderr)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    log_file(f);
    note("step %d", 3);
    warn("slow");
    log_file(NULL);
    note("not logged");
    fclose(f);
    cr_assert_str_eq(text, "chimera: step 3\nchimera: warning: slow\n");
    fflush(stderr);
    cr_assert_stderr_eq_str("chimera: step 3\nchimera: warning: slow\nchimera: not logged\n");
    free(text);
}
