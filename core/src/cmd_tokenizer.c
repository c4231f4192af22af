/* cmd_tokenizer.c - `chimera tokenizer`: makes a vocabulary from text, and turns text into ids and back
 * with any tokenizer that a configuration can name.                                                   */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "core.h"
#include "fs.h"
#include "json.h"
#include "packed.h"
#include "run.h"
#include "spec.h"
#include "tokens.h"
#include "vocab_train.h"

static int64_t flag_n = 4096, flag_least = 2;
static const char *flag_out, *flag_split = "o200k";
static bool flag_figures, flag_json;

static const struct cli_flag flags[] = {
    { "vocab", 'n', CLI_INT, &flag_n, "N",
      "train: ids of the vocabulary, the end of a document included (default: 4096)" },
    { "output", 'o', CLI_TEXT, &flag_out, "FILE",
      "train: the vocabulary; encode, decode: ids or text (default: standard output)" },
    { "split", 0, CLI_TEXT, &flag_split, "RULE",
      "train: where no token crosses, as tokenizer.split of bpe (default: o200k)" },
    { "least", 0, CLI_INT, &flag_least, "N", "train: join no pair that is there less often (default: 2)" },
    { "figures", 0, CLI_SWITCH, &flag_figures, NULL,
      "encode: no ids, but how many there are and how fast they come" },
    { "json", 0, CLI_SWITCH, &flag_json, NULL,
      "encode: each line is a text, as a JSON string, and gets a line of ids" },
    CLI_FLAGS_END
};

/* ---- which tokenizer ---------------------------------------------------------------------------- */

static bool ends_in(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && !strcmp(s + n - m, tail);
}

/* A configuration of nothing but these words and the command line's                              */
static chi_status plain_config(const struct cli_args *a, const char *first, const char *second,
                               struct config **config)
{
    char **word = xcalloc((size_t)a->n_override + 2, sizeof *word);
    int n = 0;
    if (first) word[n++] = xstrdup(first);
    if (second) word[n++] = xstrdup(second);
    int own = n;
    for (int i = 0; i < a->n_override; i++) word[n++] = a->override[i];
    chi_status s = config_load(config, NULL, word, n);
    for (int i = 0; i < own; i++) free(word[i]);
    free(word);
    return s;
}

/* A configuration, a run, a packed model; a vocabulary or a tokenizer.json; a tokenizer's name      */
static chi_status open_spec(const struct cli_args *a, const char *subject, struct spec **spec)
{
    struct config *config;
    bool there = fs_exists(subject);
    if (there && packed_is(subject))
        return run_packed_spec(subject, a->override, a->n_override, NULL, SPEC_MODEL | SPEC_TOKENIZER, spec);
    if (there && (fs_is_dir(subject) || ends_in(subject, ".ini"))) {
        TRY(run_config(subject, a->override, a->n_override, &config));
        return spec_open(spec, config, SPEC_MODEL | SPEC_TOKENIZER);
    }
    if (!there && (strchr(subject, '/') || strchr(subject, '.')))
        return fail(CHI_ECONF,
                    "%s: there is no such file; wanted is a FILE.ini, a run, a vocabulary, a tokenizer.json, or the "
                    "name of a tokenizer", subject);
    char *name = there ? xprintf("data.tokenizer=%s", ends_in(subject, ".json") ? "huggingface" : "bpe")
                       : xprintf("data.tokenizer=%s", subject);
    char *file = there ? xprintf("tokenizer.file=%s", subject) : NULL;
    chi_status s = plain_config(a, name, file, &config);
    free(name);
    free(file);
    TRY(s);
    return spec_open(spec, config, SPEC_TOKENIZER);
}

/* ---- bytes in and out ------------------------------------------------------------------------------ */

static chi_status read_file(const char *path, unsigned char **bytes, int64_t *n)
{
    if (!fs_exists(path)) return fail(CHI_EDATA, "%s: there is no such file; give text that can be read", path);
    return fs_read(path, bytes, n);
}

static chi_status read_input(const char *path, unsigned char **bytes, int64_t *n)
{
    if (path && strcmp(path, "-") != 0) return read_file(path, bytes, n);
    int64_t room = 0;
    unsigned char *p = NULL;
    for (*n = 0;;) {
        if (*n == room) {
            unsigned char *q = mem_take((size_t)(room = 2 * room + 65536) + 1, "the text");
            if (!q) {
                mem_free(p);
                return CHI_ENOMEM;
            }
            if (p) memcpy(q, p, (size_t)*n);
            mem_free(p);
            p = q;
        }
        ssize_t got = read(STDIN_FILENO, p + *n, (size_t)(room - *n));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            mem_free(p);
            return fail_errno(CHI_EIO, "cannot read standard input");
        }
        if (!got) break;
        *n += got;
    }
    *bytes = p;
    return CHI_OK;
}

static chi_status write_output(const void *bytes, int64_t n)
{
    if (flag_out) return fs_write_atomic(flag_out, bytes, n);
    if (fwrite(bytes, 1, (size_t)n, stdout) == (size_t)n && !fflush(stdout)) return CHI_OK;
    return fail_errno(CHI_EIO, "cannot write standard output");
}

/* ---- encode and decode ------------------------------------------------------------------------------- */

/* Of this thread: what others do on the machine does not count                                       */
static double processor_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Of the second time, when the tables are warm                                                     */
static chi_status print_figures(struct tokens *t, const unsigned char *text, int64_t n)
{
    int32_t *id;
    int64_t count = 0;
    double s = 0;
    for (int i = 0; i < 2; i++) {
        double begun = processor_s();
        TRY(tokens_encode(t, text, n, false, &id, &count));
        s = processor_s() - begun;
        free(id);
    }
    printf("%lld bytes, %lld tokens, %.3f bytes a token, %.1f MB/s on one core\n", (long long)n, (long long)count,
           count ? (double)n / (double)count : 0, s > 0 ? (double)n / s / 1e6 : 0);
    return CHI_OK;
}

/* Appends a line with the ids of a text                                                             */
static chi_status add_ids(struct tokens *t, const unsigned char *text, int64_t n, FILE *to)
{
    int32_t *id;
    int64_t count;
    TRY(tokens_encode(t, text, n, false, &id, &count));
    for (int64_t i = 0; i < count; i++) fprintf(to, "%s%d", i ? " " : "", (int)id[i]);
    fputc('\n', to);
    free(id);
    return CHI_OK;
}

static chi_status add_lines(struct tokens *t, const unsigned char *text, int64_t n, FILE *to)
{
    int64_t number = 1;
    for (int64_t i = 0; i < n; number++) {
        const unsigned char *eol = memchr(text + i, '\n', (size_t)(n - i));
        int64_t m = eol ? eol - (text + i) : n - i;
        char name[32];
        cJSON *j;
        snprintf(name, sizeof name, "line %lld", (long long)number);
        TRY(json_parse(name, (const char *)text + i, m, 1, &j));
        const char *line = cJSON_GetStringValue(j);
        chi_status s = line ? add_ids(t, (const unsigned char *)line, (int64_t)strlen(line), to)
                            : fail(CHI_EDATA, "%s is no JSON string", name);
        cJSON_Delete(j);
        TRY(s);
        i += m + 1;
    }
    return CHI_OK;
}

/* Ids between blanks, commas or brackets, as encode and JSON write them                                */
static chi_status next_id(const struct tokens *t, const unsigned char *text, int64_t *i, int64_t n, int64_t *id)
{
    while (*i < n && text[*i] && strchr(" \t\r\n,[]", text[*i])) ++*i;
    if (*i == n) {
        *id = -1;
        return CHI_OK;
    }
    int64_t begun = *i;
    for (*id = 0; *i < n && text[*i] >= '0' && text[*i] <= '9'
         && *i - begun < 10; ++*i) *id = *id * 10 + text[*i] - '0';
    if (*i == begun || (*i < n && (!text[*i] || !strchr(" \t\r\n,[]", text[*i]))))
        return fail(CHI_EDATA, "byte %lld of the ids is no number from 0 to %lld", (long long)*i,
                    (long long)tokens_vocab(t) - 1);
    if (*id >= tokens_vocab(t))
        return fail(CHI_EDATA, "id %lld is outside of the vocabulary, 0 to %lld", (long long)*id,
                    (long long)tokens_vocab(t) - 1);
    return CHI_OK;
}

static chi_status add_text(struct tokens *t, const unsigned char *text, int64_t n, FILE *to)
{
    const unsigned char *bytes;
    int64_t i = 0, id = 0;
    for (;;) {
        TRY(next_id(t, text, &i, n, &id));
        if (id < 0) return CHI_OK;
        int64_t m = tokens_decode(t, (int32_t)id, &bytes);
        fwrite(bytes, 1, (size_t)m, to);
    }
}

typedef chi_status conversion(struct tokens *, const unsigned char *text, int64_t n, FILE *to);

/* What add() writes, to the output when all of it is there                                         */
static chi_status collect(struct tokens *t, const unsigned char *text, int64_t n, conversion *add)
{
    char *out = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&out, &size);
    chi_status s = f ? add(t, text, n, f) : CHI_OK;
    if ((!f || fclose(f)) && s == CHI_OK) s = fail(CHI_ENOMEM, "no memory for what %lld bytes become", (long long)n);
    if (s == CHI_OK) s = write_output(out, (int64_t)size);
    free(out);
    return s;
}

static chi_status encode_text(struct tokens *t, const unsigned char *text, int64_t n)
{
    if (flag_figures) return print_figures(t, text, n);
    return collect(t, text, n, flag_json ? add_lines : add_ids);
}

static chi_status decode_ids(struct tokens *t, const unsigned char *text, int64_t n)
{
    return collect(t, text, n, add_text);
}

static chi_status convert(const struct cli_args *a, chi_status (*with)(struct tokens *, const unsigned char *,
                                                                       int64_t))
{
    struct spec *spec = NULL;
    struct tokens *t = NULL;
    unsigned char *text = NULL;
    int64_t n = 0;
    if (a->n_word < 2 || a->n_word > 3)
        return fail(CHI_ECONF, "tokenizer %s: wanted is a tokenizer and at most one file: chimera tokenizer --help",
                    a->word[0]);
    TRY(open_spec(a, a->word[1], &spec));
    chi_status s = tokens_open_alone(&t, spec);
    if (s == CHI_OK) s = read_input(a->n_word > 2 ? a->word[2] : NULL, &text, &n);
    if (s == CHI_OK) s = with(t, text, n);
    mem_free(text);
    tokens_close(t);
    spec_close(spec);
    return s;
}

/* ---- train ---------------------------------------------------------------------------------------------- */

static chi_status count_file(const struct tokens *t, const char *path, struct pieces *p)
{
    unsigned char *text;
    int64_t n;
    TRY(read_file(path, &text, &n));
    for (int64_t i = 0, m; i < n; i += m) {
        m = tokens_piece(t, text + i, n - i);
        if (m < 1 || m > n - i) {
            mem_free(text);
            return fail(CHI_EPLUGIN, "a piece of %lld bytes of the %lld left of %s", (long long)m, (long long)(n - i),
                        path);
        }
        pieces_count(p, text + i, m);
    }
    mem_free(text);
    return CHI_OK;
}

static chi_status count_path(const struct tokens *t, const char *path, struct pieces *p, struct progress *shown)
{
    char **name = NULL;
    int64_t n = 0;
    if (!fs_is_dir(path)) return count_file(t, path, p);
    TRY(fs_list(path, &name, &n));
    chi_status s = CHI_OK;
    for (int64_t i = 0; i < n && s == CHI_OK; i++) {
        char *full = fs_join(path, name[i]);
        s = count_file(t, full, p);
        progress_part(shown, "counting pieces", i, n);
        free(full);
    }
    fs_list_free(name, n);
    return s;
}

static void say_trained(const struct pieces *p, const struct vocab *v)
{
    note("%s: %lld tokens and the end of a document from %lld bytes, %lld distinct pieces; [tokenizer] file and "
         "split = %s, "
         "model.vocab_size = %lld", flag_out, (long long)v->n, (long long)p->bytes, (long long)p->n, flag_split,
         (long long)v->n + 1);
    if (v->n + 1 < flag_n)
        note("%lld ids were wanted, but no other pair is there %lld times: give more text, or a smaller --least",
             (long long)flag_n, (long long)flag_least);
    if (p->skipped) note("%lld bytes are in pieces of more than 1024 bytes, which do not count",
                         (long long)p->skipped);
}

static chi_status train_with(const struct cli_args *a, const struct tokens *t)
{
    struct pieces p = { .n = 0 };
    struct vocab v = { .n = 0 };
    struct progress shown;
    chi_status s = CHI_OK;
    progress_begin(&shown, 0);
    for (int i = 1; i < a->n_word && s == CHI_OK; i++) s = count_path(t, a->word[i], &p, &shown);
    if (s == CHI_OK && !p.bytes) s = fail(CHI_EDATA, "%s: no text to train on", a->word[1]);
    if (s == CHI_OK) {
        vocab_train(&v, &p, flag_n - 1, flag_least, &shown);
        s = vocab_write(&v, flag_out);
    }
    progress_end(&shown);
    if (s == CHI_OK) say_trained(&p, &v);
    vocab_free(&v);
    pieces_free(&p);
    return s;
}

static chi_status train(const struct cli_args *a)
{
    struct config *config;
    struct spec *spec;
    struct tokens *t;
    if (a->n_word < 2) return fail(CHI_ECONF, "tokenizer train: wanted are files or folders of text");
    if (!flag_out) return fail(CHI_ECONF, "tokenizer train: -o FILE is missing, which gets the vocabulary");
    if (flag_n < 257 || flag_n > 1 << 24)
        return fail(CHI_ECONF, "tokenizer train -n %lld: must be 257 (the bytes and the end) .. %d",
                    (long long)flag_n, 1 << 24);
    if (flag_least < 1)
        return fail(CHI_ECONF, "tokenizer train --least %lld: must be 1 or more", (long long)flag_least);
    if (!fs_is_special(flag_out)) TRY(fs_name_free(flag_out));      /* models may read and write in its ids */
    TRY(fs_can_write(flag_out));
    char *split = xprintf("tokenizer.split=%s", flag_split);
    chi_status s = plain_config(a, "data.tokenizer=bpe", split, &config);
    free(split);
    TRY(s);
    TRY(spec_open(&spec, config, SPEC_TOKENIZER));
    s = tokens_open_alone(&t, spec);
    if (s == CHI_OK) {
        s = train_with(a, t);
        tokens_close(t);
    }
    spec_close(spec);
    return s;
}

static chi_status run(const struct cli_args *a)
{
    static const char *const action[] = { "train", "encode", "decode", NULL };
    if (!strcmp(a->word[0], "train")) return train(a);
    if (!strcmp(a->word[0], "encode")) return convert(a, encode_text);
    if (!strcmp(a->word[0], "decode")) return convert(a, decode_ids);
    const char *near = closest(a->word[0], action);
    return fail(CHI_ECONF, "tokenizer %s: wanted is train, encode or decode%s%s", a->word[0],
                near ? "; did you mean " : "", near ? near : "");
}

const struct verb verb_tokenizer = {
    .name = "tokenizer", .usage = "train FILE... -o FILE | encode TOKENIZER [FILE] | decode TOKENIZER [FILE]",
    .summary = "make a vocabulary from text; text to ids and back",
    .doc = "train counts the pieces of the text in FILEs and folders and joins the most frequent pair of\n"
           "neighbours again and again (byte-level BPE).  What it writes is for [data] tokenizer = bpe:\n"
           "[tokenizer] file names it, and split is the --split it was made with.  The same text gives the\n"
           "same file; of equally frequent pairs the one with the lower ids comes first.\n"
           "\n"
           "TOKENIZER is a FILE.ini, a run or a packed model; a vocabulary; a tokenizer.json; or a name, such\n"
           "as byte.  encode prints the ids of FILE or standard input, decode the text of ids.  Options of the\n"
           "tokenizer are overrides: tokenizer.special=yes.\n",
    .examples = "chimera tokenizer train corpus/ -n 4096 -o corpus.ranks\n"
                "echo 'a text' | chimera tokenizer encode corpus.ranks\n"
                "chimera tokenizer encode o200k tokenizer.file=o200k_base.tiktoken README.md --figures\n"
                "chimera tokenizer encode tokenizer.json text.txt | chimera tokenizer decode tokenizer.json\n",
    .flags = flags, .min_words = 1, .max_words = 1000000, .run = run,
};
