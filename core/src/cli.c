/* cli.c - sorts words into verbs, flags and overrides, and makes help from the
 * tables.  Nothing is guessed: a word that no table has ends with exit code 2 and,
 * if one is close, the word that was probably meant.  No colours, so that output is
 * the same on a terminal and in a file.                                         */
#include "cli.h"
#include "core.h"
#include "dialect.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- one flag ---------------------------------------------------------------- */

static const struct cli_flag *flag_named(const struct verb *v, const char *name, size_t n)
{
    for (const struct cli_flag *f = v->flags; f && f->name; f++)
        if (strlen(f->name) == n && !memcmp(f->name, name, n)) return f;
    return NULL;
}

static const struct cli_flag *flag_lettered(const struct verb *v, char letter)
{
    for (const struct cli_flag *f = v->flags; f && f->name; f++)
        if (f->letter && f->letter == letter) return f;
    return NULL;
}

static chi_status unknown_flag(const struct verb *v, const char *word)
{
    const char *names[66] = { 0 };
    int n = 0;
    char *name = xprintf("%.*s", (int)strcspn(word, "="), word), *said = shown(name);
    for (const struct cli_flag *f = v->flags; f && f->name && n < 64; f++) names[n++] = f->name;
    names[n] = "help";
    const char *near = word[0] == '-' && word[1] == '-' ? closest(name + 2, names) : NULL;
    chi_status s = near
        ? fail(CHI_ECONF, "%s: unknown flag %s: did you mean --%s?", v->name, said, near)
        : fail(CHI_ECONF, "%s: unknown flag %s: chimera %s --help lists them", v->name, said, v->name);
    free(said);
    free(name);
    return s;
}

static chi_status bad_value(const struct verb *v, const struct cli_flag *f, const char *text, const char *want)
{
    char *said = shown(text);
    chi_status s = fail(CHI_ECONF, "%s --%s %s: must be %s (%s)", v->name, f->name, said, want, f->doc);
    free(said);
    return s;
}

/* Whole numbers may end in k, M or G, as in INI files                           */
static chi_status store(const struct verb *v, const struct cli_flag *f, const char *text)
{
    char *end;
    errno = 0;
    if (f->type == CLI_TEXT) {
        *(const char **)f->to = text;
    } else if (f->type == CLI_TEXTS) {
        struct cli_texts *t = f->to;
        t->v = xrealloc(t->v, (size_t)(t->n + 1) * sizeof *t->v);
        t->v[t->n++] = text;
    } else if (f->type == CLI_INT) {
        int64_t x = strtoll(text, &end, 10);
        int64_t scale = *end == 'k' ? 1000 : *end == 'M' ? 1000000 : *end == 'G' ? 1000000000 : 1;
        bool digit = isdigit((unsigned char)text[text[0] == '-' || text[0] == '+']);
        if (errno || !digit || end[scale > 1] || __builtin_mul_overflow(x, scale, &x))
            return bad_value(v, f, text, "a whole number");
        *(int64_t *)f->to = x;
    } else {
        double x = strtod(text, &end);
        bool number = isdigit((unsigned char)*text) || (*text && strchr("+-.", *text));
        if (!number || *end || end == text || !isfinite(x)) return bad_value(v, f, text, "a finite number");
        *(double *)f->to = x;
    }
    return CHI_OK;
}

/* Handles argv[*i], a flag, and its value, which may be argv[*i + 1]             */
static chi_status take_flag(const struct verb *v, int argc, char **argv, int *i, struct cli_args *a)
{
    const char *word = argv[*i], *value = NULL;
    const struct cli_flag *f;
    if (word[1] == '-') {
        size_t n = strcspn(word + 2, "=");
        f = flag_named(v, word + 2, n);
        if (word[2 + n]) value = word + 3 + n;
    } else {
        f = flag_lettered(v, word[1]);
        if (word[2]) value = word + 2 + (word[2] == '=');
    }
    if (!f) return unknown_flag(v, word);
    if (f->type == CLI_SWITCH) {
        if (value) return fail(CHI_ECONF, "%s --%s: takes no value", v->name, f->name);
        *(bool *)f->to = true;
        return CHI_OK;
    }
    if (!value && *i + 1 >= argc)
        return fail(CHI_ECONF, "%s --%s: needs a value: --%s %s", v->name, f->name, f->name, f->value);
    if (!value) value = argv[++*i];
    if (f->type != CLI_OVERRIDE) return store(v, f, value);
    a->override[a->n_override++] = a->made[a->n_made++] = xprintf("%s=%s", (const char *)f->to, value);
    return CHI_OK;
}

/* ---- all words of a verb ------------------------------------------------------- */

/* "section.key=value": names and a dot before the first '='                      */
static bool is_override(const char *word)
{
    size_t n = 0;
    while (ini_name_char(word[n])) n++;
    return n && word[n] == '=' && memchr(word, '.', n);
}

static chi_status count_words(const struct verb *v, const struct cli_args *a)
{
    if (a->n_word < v->min_words)
        return fail(CHI_ECONF, "%s: something is missing: chimera %s %s", v->name, v->name, v->usage);
    if (a->n_word <= v->max_words) return CHI_OK;
    char *said = shown(a->word[v->max_words]);
    const char *eq = strchr(said, '=');
    chi_status s = fail(CHI_ECONF, "%s: unexpected word '%s'%s: chimera %s %s", v->name, said,
                        eq ? " (an override is section.key=value)" : "", v->name, v->usage);
    free(said);
    return s;
}

chi_status cli_parse(const struct verb *v, int argc, char **argv, struct cli_args *a, bool *help)
{
    bool flags = true;
    *help = false;
    *a = (struct cli_args){ .word = xcalloc((size_t)argc + 1, sizeof *a->word),
                            .override = xcalloc((size_t)argc + 1, sizeof *a->override),
                            .made = xcalloc((size_t)argc + 1, sizeof *a->made) };
    for (int i = 0; i < argc && strcmp(argv[i], "--"); i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            *help = true;
            return CHI_OK;
        }
    for (int i = 0; i < argc; i++) {
        if (flags && !strcmp(argv[i], "--")) flags = false;
        else if (flags && argv[i][0] == '-' && argv[i][1]) TRY(take_flag(v, argc, argv, &i, a));
        else if (is_override(argv[i])) a->override[a->n_override++] = argv[i];
        else a->word[a->n_word++] = argv[i];
    }
    return count_words(v, a);
}

void cli_args_free(struct cli_args *a)
{
    for (int i = 0; i < a->n_made; i++) free(a->made[i]);
    free(a->made);
    free(a->word);
    free(a->override);
    *a = (struct cli_args){ 0 };
}

/* ---- help ------------------------------------------------------------------------ */

void cli_usage(const struct verb *const *all, FILE *f)
{
    fputs("chimera: build, train and run recurrent language models from an INI file\n\n"
          "  chimera VERB SUBJECT [section.key=value ...] [--flags]\n\n", f);
    for (; *all; all++) fprintf(f, "  %-10s %s\n", (*all)->name, (*all)->summary);
    fputs("\n  chimera VERB --help     what a verb does, its flags, examples\n"
          "  chimera --version       version, plugin ABI, compiler, CPU\n", f);
}

/* Text in lines of at most 79 columns, all but the first after INDENT blanks.  Line ends in
 * the text are blanks; an empty line begins a paragraph.                         */
static void wrap(FILE *f, const char *text, int indent)
{
    int column = indent;
    bool first = true;
    while (*text) {
        if (text[0] == '\n' && text[1] == '\n') {
            fprintf(f, "\n\n%*s", indent, "");
            column = indent;
            first = true;
            text += 2;
        }
        text += strspn(text, " \n");
        int n = (int)strcspn(text, " \n");
        if (!n) continue;
        if (!first && column + 1 + n > 79) {
            fprintf(f, "\n%*s", indent, "");
            column = indent;
        } else if (!first) {
            putc(' ', f);
            column++;
        }
        fprintf(f, "%.*s", n, text);
        column += n;
        first = false;
        text += n;
    }
    putc('\n', f);
}

static void examples(FILE *f, const char *text)
{
    fputs("\nExamples:\n", f);
    while (*text) {
        int n = (int)strcspn(text, "\n");
        fprintf(f, "  %.*s\n", n, text);
        text += n + (text[n] == '\n');
    }
}

static const char *flag_default(const struct cli_flag *f, char out[48])
{
    *out = 0;
    if (f->type == CLI_INT && *(int64_t *)f->to)
        snprintf(out, 48, " (default %lld)", (long long)*(int64_t *)f->to);
    if (f->type == CLI_NUMBER && *(double *)f->to != 0)
        snprintf(out, 48, " (default %g)", *(double *)f->to);
    return out;
}

void cli_help(const struct verb *v, FILE *f)
{
    char dflt[48];
    fprintf(f, "chimera %s %s\n\n%s\n", v->name, v->usage, v->summary);
    if (v->doc) {
        putc('\n', f);
        wrap(f, v->doc, 0);
    }
    fputs("\nFlags:\n", f);
    for (const struct cli_flag *g = v->flags; g && g->name; g++) {
        char *name = xprintf("%c%c%s--%s%s%s", g->letter ? '-' : ' ', g->letter ? g->letter : ' ',
                             g->letter ? ", " : "  ", g->name, g->value ? " " : "", g->value ? g->value : "");
        char *doc = xprintf("%s%s", g->doc, flag_default(g, dflt));
        fprintf(f, "  %-28s ", name);
        wrap(f, doc, 31);
        free(doc);
        free(name);
    }
    fprintf(f, "  %-28s this text\n", "-h, --help");
    if (v->examples) examples(f, v->examples);
}

/* ---- the program ------------------------------------------------------------------ */

chi_status cli_find(const struct verb *const *all, const char *name, const struct verb **out)
{
    const char *names[32] = { 0 };
    for (int i = 0; all[i] && i < 30; i++) {
        names[i] = all[i]->name;
        names[i + 1] = "help";
        if (!strcmp(all[i]->name, name)) {
            *out = all[i];
            return CHI_OK;
        }
    }
    const char *near = closest(name, names);
    char *said = shown(name);
    chi_status s = near ? fail(CHI_ECONF, "unknown verb '%s': did you mean %s?", said, near)
                        : fail(CHI_ECONF, "unknown verb '%s': chimera --help lists them", said);
    free(said);
    return s;
}

static chi_status run_verb(const struct verb *v, int argc, char **argv)
{
    struct cli_args args;
    bool help;
    chi_status s = cli_parse(v, argc, argv, &args, &help);
    if (s == CHI_OK && help) cli_help(v, stdout);
    else if (s == CHI_OK) s = v->run(&args);
    cli_args_free(&args);
    return s;
}

static chi_status dispatch(int argc, char **argv, const struct verb *const *all, void (*version)(FILE *),
                           void (*man)(FILE *))
{
    const struct verb *v;
    if (argc < 2) {
        cli_usage(all, stderr);
        return fail(CHI_ECONF, "which verb? chimera --help lists them, as above");
    }
    const char *word = argv[1];
    if (!strcmp(word, "--version")) version(stdout);
    else if (!strcmp(word, "--man")) man(stdout);
    else if (!strcmp(word, "--help") || !strcmp(word, "-h") || (!strcmp(word, "help") && argc < 3))
        cli_usage(all, stdout);
    else if (!strcmp(word, "help")) {
        TRY(cli_find(all, argv[2], &v));
        cli_help(v, stdout);
    } else if (word[0] == '-') {
        char *said = shown(word);
        chi_status s = fail(CHI_ECONF, "unknown flag %s: the verb comes first; chimera --help", said);
        free(said);
        return s;
    } else {
        TRY(cli_find(all, word, &v));
        return run_verb(v, argc - 2, argv + 2);
    }
    return CHI_OK;
}

static void print_failure(void)
{
    const char *text = fail_text();
    while (*text) {
        int n = (int)strcspn(text, "\n");
        fprintf(stderr, "chimera: %.*s\n", n, text);
        text += n + (text[n] == '\n');
    }
}

int cli_main(int argc, char **argv, const struct verb *const *all, void (*version)(FILE *), void (*man)(FILE *))
{
    chi_status s = dispatch(argc, argv, all, version, man);
    if (s != CHI_OK) print_failure();
    if (fflush(stdout) || ferror(stdout)) {
        chi_status out = fail_errno(CHI_EIO, "standard output cannot be written");
        if (s == CHI_OK) {
            s = out;
            print_failure();
        }
    }
    return exit_code(s);
}
