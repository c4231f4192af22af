/* test_cli.c - words into flags and overrides; help; wrong verbs and flags; the
 * manual page.                                                                  */
#include "cli.h"
#include "core.h"
#include "spec.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static bool fast;
static int64_t count = 40;
static double heat = 0.5;
static const char *prompt = "none";
static struct cli_texts stops;
static chi_status result;
static int ran, n_words, n_overrides;

static const struct cli_flag flags[] = {
    { "fast", 'f', CLI_SWITCH, &fast, NULL, "go fast" },
    { "count", 'n', CLI_INT, &count, "N", "how many" },
    { "temperature", 0, CLI_NUMBER, &heat, "T", "how hot" },
    { "prompt", 'p', CLI_TEXT, &prompt, "TEXT", "what comes first" },
    { "stop", 0, CLI_TEXTS, &stops, "TEXT", "where to stop" },
    CLI_FLAGS_END
};

static chi_status run(const struct cli_args *a)
{
    ran++;
    n_words = a->n_word;
    n_overrides = a->n_override;
    return result == CHI_OK ? CHI_OK : fail(result, "first line\nsecond line");
}

static const struct verb go = {
    .name = "go", .usage = "RUN [section.key=value ...]", .summary = "Goes somewhere",
    .doc = "Goes.\n\n.Dots and 'quotes' and back\\slashes.\n", .examples = "  chimera go there\n",
    .flags = flags, .min_words = 1, .max_words = 2, .run = run };
static const struct verb generate = {
    .name = "generate", .usage = "RUN", .summary = "Generates", .max_words = 0, .run = run };
static const struct verb *const all[] = { &go, &generate, NULL };

static chi_status parse(struct cli_args *a, const char *words)
{
    static char text[20000];
    static char *v[64];
    bool help;
    int n = 0;
    snprintf(text, sizeof text, "%s", words);
    for (char *w = strtok(text, " "); w; w = strtok(NULL, " ")) v[n++] = w;
    return cli_parse(&go, n, v, a, &help);
}

Test(cli, flags_stand_anywhere_in_every_form)
{
    struct cli_args a;
    cr_assert_eq(parse(&a, "-f run --count=7 m.lr=1 --temperature -1.5 -pHi --stop a --stop=b"), CHI_OK,
                 "%s", fail_text());
    cr_expect(fast);
    cr_expect_eq(count, 7);
    cr_expect_eq(heat, -1.5);
    cr_expect_str_eq(prompt, "Hi");
    cr_assert_eq(stops.n, 2);
    cr_expect_str_eq(stops.v[1], "b");
    cr_assert_eq(a.n_word, 1);
    cr_assert_eq(a.n_override, 1);
    cr_expect_str_eq(a.word[0], "run");
    cr_expect_str_eq(a.override[0], "m.lr=1");
    cli_args_free(&a);
}

Test(cli, numbers_may_have_suffixes)
{
    struct cli_args a;
    const struct { const char *words; int64_t want; } t[] = {
        { "r -n 4k", 4000 }, { "r -n2M", 2000000 }, { "r -n -3", -3 }, { "r --count=0", 0 }, { "r -n=5", 5 } };
    for (int i = 0; i < COUNT(t); i++) {
        cr_assert_eq(parse(&a, t[i].words), CHI_OK, "%s", fail_text());
        cr_expect_eq(count, t[i].want);
        cli_args_free(&a);
    }
}

Test(cli, what_an_override_is)
{
    struct cli_args a;
    cr_assert_eq(parse(&a, "layer.GD.n=1 ./a.b=c linear.layers.*.q_proj.quantizer=f32 -- -x"), CHI_OK,
                 "%s", fail_text());
    cr_assert_eq(a.n_override, 2);
    cr_assert_eq(a.n_word, 2);
    cr_expect_str_eq(a.word[0], "./a.b=c");
    cr_expect_str_eq(a.word[1], "-x");
    cli_args_free(&a);
}

Test(cli, wrong_words_are_refused_with_help)
{
    const struct { const char *words, *says; } t[] = {
        { "r --fats", "did you mean --fast?" }, { "r --promt=x", "did you mean --prompt?" },
        { "r --removed-flag", "chimera go --help" }, { "r -z", "unknown flag -z" },
        { "r --count", "needs a value" }, { "r --count=", "whole number" }, { "r --count=3x", "whole number" },
        { "r --count=99999999999999999999", "whole number" }, { "r --count=9999999999G", "whole number" },
        { "r --temperature=nan", "finite" }, { "r --temperature=1e999", "finite" },
        { "r --temperature=", "finite" }, { "r --fast=yes", "takes no value" },
        { "", "something is missing" }, { "a b c", "unexpected word 'c'" },
        { "a b lr=3", "section.key=value" }, { "r --help-me", "unknown flag" } };
    for (int i = 0; i < COUNT(t); i++) {
        struct cli_args a;
        chi_status s = parse(&a, t[i].words);
        cr_expect_eq(exit_code(s), 2, "%s", t[i].words);
        cr_expect(strstr(fail_text(), t[i].says), "%s: %s", t[i].words, fail_text());
        cr_expect_null(strchr(fail_text(), '\n'));
        cli_args_free(&a);
    }
}

static void version(FILE *f)
{
    fputs("v1\n", f);
}

static void man(FILE *f)
{
    fputs(".TH\n", f);
}

/* Runs the whole program with its output caught                                  */
static int program(char **out, const char *w1, const char *w2, const char *w3)
{
    char name[] = "chimera", a[64], b[64], c[64], *v[] = { name, a, b, c, NULL }, *err = NULL;
    size_t n;
    int argc = 1 + !!w1 + !!w2 + !!w3;
    FILE *f = open_memstream(out, &n), *e = open_memstream(&err, &(size_t){ 0 }), *o = stdout, *x = stderr;
    snprintf(a, sizeof a, "%s", w1 ? w1 : "");
    snprintf(b, sizeof b, "%s", w2 ? w2 : "");
    snprintf(c, sizeof c, "%s", w3 ? w3 : "");
    stdout = f;
    stderr = e;
    int code = cli_main(argc, v, all, version, man);
    stdout = o;
    stderr = x;
    fclose(f);
    fclose(e);
    *out = xprintf("%s%s", *out, err);
    return code;
}

Test(cli, the_program_helps)
{
    char *s;
    cr_expect_eq(program(&s, NULL, NULL, NULL), 2);
    cr_expect(strstr(s, "go         Goes somewhere") && strstr(s, "generate"), "%s", s);
    cr_expect_eq(program(&s, "--help", NULL, NULL), 0);
    cr_expect(strstr(s, "Generates"));
    cr_expect_eq(program(&s, "help", NULL, NULL), 0);
    cr_expect(strstr(s, "Generates"));
    cr_expect_eq(program(&s, "--version", NULL, NULL), 0);
    cr_expect_str_eq(s, "v1\n");
    cr_expect_eq(program(&s, "--man", NULL, NULL), 0);
    cr_expect_str_eq(s, ".TH\n");
}

Test(cli, a_verb_helps_without_running)
{
    char *a, *b;
    cr_expect_eq(program(&a, "go", "--nonsense", "--help"), 0);
    cr_expect_eq(program(&b, "help", "go", NULL), 0);
    cr_expect_str_eq(a, b);
    const char *const parts[] = { "-n, --count N", "(default 40)", "how hot (default 0.5)", "Examples:",
                                  "chimera go there", "--temperature T", "Goes somewhere", "-h, --help" };
    for (int i = 0; i < COUNT(parts); i++) cr_expect(strstr(a, parts[i]), "%s: %s", parts[i], a);
    cr_expect_eq(ran, 0);
}

Test(cli, wrong_verbs_end_with_2_and_a_suggestion)
{
    char *s;
    cr_expect_eq(program(&s, "genrate", "x", NULL), 2);
    cr_expect_str_eq(s, "chimera: unknown verb 'genrate': did you mean generate?\n");
    cr_expect_eq(program(&s, "frobnicate", NULL, NULL), 2);
    cr_expect(strstr(s, "chimera --help"));
    cr_expect_eq(program(&s, "--verison", NULL, NULL), 2);
    cr_expect_eq(program(&s, "help", "genrate", NULL), 2);
    cr_expect_eq(program(&s, "", NULL, NULL), 2);
    cr_expect_eq(program(&s, "a\nb\033[31m", NULL, NULL), 2);
    cr_expect_null(strchr(s, '\033'));
    cr_expect_eq(ran, 0);
}

Test(cli, a_verb_runs_and_its_failure_is_printed_line_by_line)
{
    char *s;
    cr_expect_eq(program(&s, "go", "there", "a.b=1"), 0);
    cr_expect_eq(ran, 1);
    cr_expect_eq(n_words, 1);
    cr_expect_eq(n_overrides, 1);
    result = CHI_EDATA;
    cr_expect_eq(program(&s, "go", "there", NULL), 3);
    cr_expect_str_eq(s, "chimera: first line\nchimera: second line\n");
}

Test(cli, the_manual_page_has_every_verb_flag_and_option)
{
    struct t { int64_t heads; };
    static const struct chi_option table[] = {
        CHI_INT(struct t, heads, "40", 1, 256, "number of heads", CHI_OPT_SHAPE), CHI_OPTIONS_END };
    const struct core_section sections[] = { { "model", "The model", table }, { 0 } };
    char *s = NULL;
    size_t n;
    FILE *f = open_memstream(&s, &n);
    man_print(f, all, sections);
    fclose(f);
    const char *const parts[] = {
        ".TH CHIMERA 1", ".SH NAME", ".SS chimera go RUN", ".SS chimera generate",
            "\\fB\\-n, \\-\\-count\\fR \\fIN\\fR",
        "what comes first", ".SS [model]", "\\fBheads\\fR", "1..256; default 40",
        "\n\\&.Dots and 'quotes' and back\\eslashes.", ".SH EXIT STATUS", ".SH FILES" };
    for (int i = 0; i < COUNT(parts); i++) cr_expect(strstr(s, parts[i]), "%s", parts[i]);
    free(s);
}
