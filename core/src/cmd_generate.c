/* cmd_generate.c - chimera generate: reads prompts and flags, runs the generator, and
 * writes text or JSON lines.  Stdout carries nothing but what was asked for; stderr
 * gets one line of figures.  Flags that mirror [generate] become overrides, so that
 * their ranges and messages are the configuration's own.                          */
#include "cli.h"
#include "core.h"
#include "fs.h"
#include "generate.h"
#include "generate_io.h"
#include "run.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_ROWS = 256 };

static struct cli_texts flag_prompt, flag_file, flag_lines, flag_ids, flag_stop;
static const char *flag_allow, *flag_n, *flag_temperature, *flag_top_k, *flag_top_p, *flag_penalty, *flag_seed;
static const char *flag_save, *flag_load, *flag_output = "text";
static const char *flag_batch;
static int64_t flag_stream;
static bool flag_ignore_end, flag_timing, flag_quiet;

static const struct cli_flag flags[] = {
    { "prompt", 'p', CLI_TEXTS, &flag_prompt, "TEXT", "the text to continue; each one is a stream" },
    { "prompt-file", 0, CLI_TEXTS, &flag_file, "FILE", "a file that is one prompt; - is stdin" },
    { "prompts", 0, CLI_TEXTS, &flag_lines, "FILE", "a file with a prompt on every line" },
    { "ids", 0, CLI_TEXTS, &flag_ids, "LIST",
      "token ids such as \"1 5 20-25\" in the place of a text, and ids as output; "
      "needs no tokenizer; may be repeated" },
    { "allow", 0, CLI_TEXT, &flag_allow, "LIST|FILE", "draw among these token ids only; computes no other logit" },
    { "max-new-tokens", 'n', CLI_TEXT, &flag_n, "N", "how many tokens to draw" },
    { "temperature", 0, CLI_TEXT, &flag_temperature, "T", "0 takes the likeliest token" },
    { "top-k", 0, CLI_TEXT, &flag_top_k, "K", "draw among the K likeliest tokens, 0: all" },
    { "top-p", 0, CLI_TEXT, &flag_top_p, "P", "draw among the likeliest tokens of mass P" },
    { "repetition-penalty", 0, CLI_TEXT, &flag_penalty, "R", "above 1: recent tokens are less likely" },
    { "seed", 0, CLI_TEXT, &flag_seed, "N", "another seed draws another text" },
    { "stop", 0, CLI_TEXTS, &flag_stop, "TEXT", "end before this text; may be repeated" },
    { "ignore-end", 0, CLI_SWITCH, &flag_ignore_end, NULL, "go on after the end of a document" },
    { "batch", 0, CLI_TEXT, &flag_batch, "N", "how many prompts run at once (deployment.streams)" },
    { "stream", 0, CLI_INT, &flag_stream, "N", "number of the first prompt's random stream" },
    { "save-session", 0, CLI_TEXT, &flag_save, "FILE", "save the stream at the end" },
    { "load-session", 0, CLI_TEXT, &flag_load, "FILE", "go on from a saved stream" },
    { "output", 'o', CLI_TEXT, &flag_output, "text|jsonl", "plain text, or a JSON object per prompt" },
    { "timing", 0, CLI_SWITCH, &flag_timing, NULL, "where the time until the first token went, on stderr" },
    { "quiet", 'q', CLI_SWITCH, &flag_quiet, NULL, "no line of figures on stderr" },
    CLI_MODE,
    CLI_VERIFY,
    CLI_FLAGS_END
};

/* ---- signals ----------------------------------------------------------------- */

static volatile sig_atomic_t caught;

static void on_signal(int s)
{
    caught = s;
}

static bool interrupted(void)
{
    return caught != 0;
}

/* The first SIGINT or SIGTERM ends the text in order, the second the program.  A closed
 * pipe is an answer of write(), not a signal.                                     */
static void catch_signals(void)
{
    struct sigaction a = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* ---- output ------------------------------------------------------------------ */

static bool pipe_closed;                /* nobody reads any more                   */
static char last_byte = '\n';           /* of stdout                               */

/* Writes t to stdout and empties it                                              */
static chi_status flush(void *ctx)
{
    struct text *t = ctx;
    for (int64_t at = 0; at < t->n;) {
        ssize_t k = write(STDOUT_FILENO, t->b + at, (size_t)(t->n - at));
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) {
            pipe_closed = errno == EPIPE;
            return fail_errno(CHI_EIO, "cannot write to stdout");
        }
        at += k;
    }
    if (t->n) last_byte = t->b[t->n - 1];
    t->n = 0;
    return CHI_OK;
}

/* ---- prompts ----------------------------------------------------------------- */

static chi_status collect(struct prompts *all)
{
    for (int i = 0; i < flag_prompt.n; i++)
        prompts_add(all, flag_prompt.v[i], (int64_t)strlen(flag_prompt.v[i]));
    for (int i = 0; i < flag_file.n; i++) TRY(prompts_add_file(all, flag_file.v[i], false));
    for (int i = 0; i < flag_lines.n; i++) TRY(prompts_add_file(all, flag_lines.v[i], true));
    for (int i = 0; i < flag_ids.n; i++) TRY(prompts_add_ids(all, flag_ids.v[i], flag_load != NULL));
    if (all->n) return CHI_OK;
    if (flag_lines.n) return fail(CHI_ECONF, "%s has no lines, so no prompts", flag_lines.v[0]);
    prompts_add(all, "", 0);
    return CHI_OK;
}

/* ---- flags ------------------------------------------------------------------- */

static chi_status check_flags(void)
{
    int stdins = 0;
    for (int i = 0; i < flag_file.n; i++) stdins += !strcmp(flag_file.v[i], "-");
    for (int i = 0; i < flag_lines.n; i++) stdins += !strcmp(flag_lines.v[i], "-");
    if (stdins > 1) return fail(CHI_ECONF, "stdin (-) is given %d times, it can be read once", stdins);
    if (strcmp(flag_output, "text") && strcmp(flag_output, "jsonl"))
        return fail(CHI_ECONF, "-o %s: must be text or jsonl", flag_output);
    if (flag_ids.n && (flag_prompt.n || flag_file.n || flag_lines.n))
        return fail(CHI_ECONF, "--ids does not go with prompts of text: give either ids or text");
    if (flag_ids.n && flag_stop.n)
        return fail(CHI_ECONF, "--stop does not go with --ids: texts are compared, and ids make none");
    if (flag_stream < 0 || flag_stream > UINT32_MAX)
        return fail(CHI_ECONF, "--stream %lld: must be 0..4294967295", (long long)flag_stream);
    if (flag_stream && flag_load)
        return fail(CHI_ECONF, "--stream does not go with --load-session: the session has its own");
    for (int i = 0; i < flag_stop.n; i++)
        if (!flag_stop.v[i][0]) return fail(CHI_ECONF, "--stop '': must have at least one byte");
    return CHI_OK;
}

/* A session that cannot be saved is said before the work, not after it           */
static chi_status check_session(const struct prompts *all)
{
    if (!flag_save && !flag_load) return CHI_OK;
    if (all->n > 1)
        return fail(CHI_ECONF, "--%s-session holds one stream, but there are %lld prompts",
                    flag_save ? "save" : "load", (long long)all->n);
    if (!flag_save) return CHI_OK;
    if (!flag_save[0] || fs_is_dir(flag_save))
        return fail(CHI_ECONF, "--save-session '%s': must be a file", flag_save);
    if (fs_exists(flag_save) && !session_is(flag_save))
        return fail(CHI_ECONF, "--save-session %s: is there already and is no session: give another name", flag_save);
    char *folder = xstrdup(flag_save), *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder] = 0;
    const char *at = slash ? folder : ".";
    chi_status s = access(at, W_OK) ? fail_errno(CHI_EIO, "--save-session %s: folder %s", flag_save, at)
                 : CHI_OK;
    free(folder);
    return s;
}

/* overrides of the command line, then those that flags stand for                 */
static char **all_overrides(const struct cli_args *a, int *n)
{
    const struct { const char *key, *value; } mirror[] = {
        { "max_new_tokens", flag_n }, { "temperature", flag_temperature }, { "top_k", flag_top_k },
        { "top_p", flag_top_p }, { "repetition_penalty", flag_penalty }, { "seed", flag_seed }
    };
    char **v = xcalloc((size_t)(a->n_override + COUNT(mirror) + 1), sizeof *v);
    *n = 0;
    for (; *n < a->n_override; ++*n) v[*n] = xstrdup(a->override[*n]);
    for (int i = 0; i < COUNT(mirror); i++)
        if (mirror[i].value) v[(*n)++] = xprintf("generate.%s=%s", mirror[i].key, mirror[i].value);
    if (flag_batch) v[(*n)++] = xprintf("deployment.streams=%s", flag_batch);
    return v;
}

static void free_overrides(char **v, int n)
{
    for (int i = 0; i < n; i++) free(v[i]);
    free(v);
}

/* ---- the work ---------------------------------------------------------------- */

static chi_status open_out(struct completion *c, const struct spec *spec, struct text *to)
{
    const char *stop = flag_ids.n ? NULL : spec->generate.stop;
    if (flag_stop.n) return text_out_open(&c->out, flag_stop.v, flag_stop.n, text_add, to);
    return text_out_open(&c->out, &stop, stop && stop[0] ? 1 : 0, text_add, to);
}

/* Prompts first .. first+n-1                                                     */
static chi_status run_batch(struct generator *g, const struct prompts *all, int64_t first,
                            int64_t n, struct completion *c, struct text *text)
{
    struct text out = { 0 };
    for (int64_t i = 0; i < n; i++) {
        c[i].stream = generator_stream(g, i, (uint64_t)(flag_stream + first + i));
        TRY(open_out(&c[i], g->spec, &text[i]));
    }
    TRY(generate_read(g, c, all->v + first, n));
    chi_status s = generate_write(g, c, n);
    bool jsonl = !strcmp(flag_output, "jsonl");
    for (int64_t i = 0; i < n && s == CHI_OK; i++) {
        s = text_out_end(&c[i].out);
        if (s == CHI_OK && jsonl) s = completion_line(&out, first + i, &all->v[first + i], &c[i], &text[i]);
        else if (s == CHI_OK) s = completion_block(&out, first + i, &all->v[first + i], &text[i]);
    }
    if (s == CHI_OK) s = flush(&out);
    free(out.b);
    return s;
}

static chi_status run_many(struct generator *g, const struct prompts *all)
{
    chi_status s = CHI_OK;
    struct completion *c = xcalloc((size_t)g->batch, sizeof *c);
    struct text *text = xcalloc((size_t)g->batch, sizeof *text);
    for (int64_t at = 0; at < all->n && s == CHI_OK && !caught; at += g->batch) {
        int64_t n = min_i64(g->batch, all->n - at);
        s = run_batch(g, all, at, n, c, text);
        for (int64_t i = 0; i < n; i++) {
            text_out_close(&c[i].out);
            free(text[i].b);
            c[i] = (struct completion){ 0 };
            text[i] = (struct text){ 0 };
        }
    }
    free(text);
    free(c);
    return s;
}

/* Loads the session into c; what waited in it goes first                         */
static chi_status resume(struct generator *g, const struct session_key *key, struct completion *c,
                         const struct prompt *p)
{
    struct stream *s = c->stream;
    TRY(named_file("--load-session", flag_load, "what --save-session wrote"));
    TRY(session_load(flag_load, s, key));
    if (g->options.repetition_penalty != 1 && s->kept < min_i64(s->window, s->total))
        return fail(CHI_ECONF, "%s keeps the last %lld tokens, but generate.repetition_window is %lld: "
                    "set it to at most that", flag_load, (long long)s->kept, (long long)s->window);
    TRY(text_out_put(&c->out, s->waiting, s->n_waiting));
    s->n_waiting = 0;
    return p->n ? text_out_end(&c->out) : CHI_OK;
}

/* A text that can go on keeps what waits for its rest; any other lets it out      */
static chi_status finish(const struct session_key *key, struct completion *c)
{
    bool goes_on = c->end == GEN_LENGTH || c->end == GEN_INTERRUPTED;
    if (flag_save && goes_on)
        c->stream->n_waiting = (int32_t)text_out_waiting(&c->out, c->stream->waiting);
    else
        TRY(text_out_end(&c->out));
    return flag_save ? session_save(flag_save, c->stream, key) : CHI_OK;
}

static chi_status run_one(struct generator *g, const struct prompt *p, struct completion *c,
                          struct session_key *key, struct text *text)
{
    bool jsonl = !strcmp(flag_output, "jsonl");
    c->flush = jsonl ? NULL : flush;
    c->stream = generator_stream(g, 0, (uint64_t)flag_stream);
    TRY(open_out(c, g->spec, text));
    if (flag_save || flag_load) TRY(generator_key(g, key));
    if (flag_load) TRY(resume(g, key, c, p));
    if (flag_load && p->id && !p->n_id && !jsonl) text_say(text, " ");     /* between the ids of both runs      */
    TRY(generate_read(g, c, p, 1));
    chi_status wrote = c->out.stopped ? (c->end = GEN_STOP, CHI_OK) : generate_write(g, c, 1);
    if (wrote != CHI_OK && !pipe_closed) return wrote;
    TRY(finish(key, c));
    if (pipe_closed) return CHI_OK;
    if (!jsonl) {
        TRY(flush(text));
        if (last_byte != '\n' && isatty(STDOUT_FILENO)) text_say(text, "\n");
        return flush(text);
    }
    struct text out = { 0 };
    chi_status s = completion_line(&out, 0, p, c, text);
    if (s == CHI_OK) s = flush(&out);
    free(out.b);
    return s;
}

static chi_status run_single(struct generator *g, const struct prompt *p)
{
    struct completion c = { 0 };
    struct session_key key = { 0 };
    struct text text = { 0 };
    chi_status s = run_one(g, p, &c, &key, &text);
    text_out_close(&c.out);
    free(key.text);
    free(text.b);
    return s;
}

/* From exec on, which the kernel knows; without it from main()                   */
static void say_timing(const struct generator *g, double loaded)
{
    double start = process_start();
    if (g->first_at <= 0)
        note("no token: %.3f s until the weights were there, %.3f s for the prompt", loaded - start, g->prefill_s);
    else note("first token after %.3f s: %.3f s until the weights were there, %.3f s for the prompt, %.3f s for "
              "work space and the"
         " token", g->first_at - start, loaded - start, g->prefill_s, g->first_at - loaded - g->prefill_s);
}

static void say_figures(const struct generator *g)
{
    char state[32];
    human_bytes(state, model_state_bytes(g->model));
    note("read %lld tokens (%.0f/s), wrote %lld tokens (%.1f/s), %s of state per stream",
         (long long)g->read, g->prefill_s > 0 ? (double)g->prefill_rows / g->prefill_s : 0,
         (long long)g->decode_rows, g->decode_s > 0 ? (double)g->decode_rows / g->decode_s : 0, state);
}

/* --allow: a list, or the file that has it                                       */
static chi_status open_allow(struct shortlist *l, int64_t vocab)
{
    unsigned char *bytes = NULL;
    int32_t *id;
    int64_t n;
    bool file = !strchr("0123456789", *flag_allow);
    if (file) TRY(named_file("--allow", flag_allow, "a list of token ids such as 5,10-20, or a file with one"));
    if (file) TRY(fs_read(flag_allow, &bytes, &n));
    chi_status s = ids_parse(file ? (const char *)bytes : flag_allow, file ? flag_allow : "--allow", &id, &n);
    mem_free(bytes);
    TRY(s);
    s = shortlist_open(l, id, n, vocab);
    free(id);
    return s;
}

static chi_status check_ids(const struct prompts *all, int64_t vocab)
{
    for (int64_t i = 0; i < all->n; i++)
        for (int64_t j = 0; j < all->v[i].n_id; j++)
            if (all->v[i].id[j] >= vocab)
                return fail(CHI_ECONF, "--ids: token %ld, but ids are 0..%lld", (long)all->v[i].id[j],
                            (long long)vocab - 1);
    return CHI_OK;
}

static chi_status generate(struct model *m, const struct prompts *all, struct generator *g, struct shortlist *allow)
{
    int64_t vocab = model_spec(m)->model.vocab_size;
    struct generator_options how = { .batch = model_max_segs(m), .ids = flag_ids.n > 0 };
    TRY(check_ids(all, vocab));
    if (flag_allow) {
        TRY(open_allow(allow, vocab));
        how.allow = allow;
    }
    TRY(generator_open(g, m, &how));
    g->ignore_end = flag_ignore_end;
    g->interrupted = interrupted;
    return all->n == 1 ? run_single(g, all->v) : run_many(g, all);
}

/* A text without the tokenizer that it takes                                      */
static chi_status hint_ids(chi_status s)
{
    if (s == CHI_OK || flag_ids.n || !strstr(fail_text(), "tokenizer")) return s;
    char *why = xstrdup(fail_text());
    fail(s, "%s; without a tokenizer, --ids takes token ids, which need none", why);
    free(why);
    return s;
}

static chi_status with_model(const struct cli_args *a, const struct prompts *all)
{
    struct spec *spec = NULL;
    struct model *model = NULL;
    struct generator g = { 0 };
    struct shortlist allow = { 0 };
    int n, needs = SPEC_MODEL | SPEC_STREAMS | (flag_ids.n ? 0 : SPEC_TOKENIZER);
    char **override = all_overrides(a, &n);
    chi_status s = run_load_model(a->word[0], override, n, NULL, needs, CHUNK_ROWS, all->n, &spec, &model);
    free_overrides(override, n);
    TRY(hint_ids(s));
    double loaded = now_s();
    s = hint_ids(generate(model, all, &g, &allow));
    if (pipe_closed) s = CHI_OK;
    if (s == CHI_OK && !flag_quiet) say_figures(&g);
    if (s == CHI_OK && flag_timing) say_timing(&g, loaded);
    generator_close(&g);
    shortlist_close(&allow);
    model_close(model);
    spec_close(spec);
    return s;
}

static chi_status run(const struct cli_args *a)
{
    struct prompts all = { 0 };
    TRY(check_flags());
    chi_status s = collect(&all);
    if (s == CHI_OK) s = check_session(&all);
    catch_signals();
    if (s == CHI_OK) s = with_model(a, &all);
    prompts_free(&all);
    if (!caught) return s;
    if (s != CHI_OK) note("%s", fail_text());
    signal(caught, SIG_DFL);                    /* the shell sees 128 + the signal */
    raise(caught);
    return s;
}

const struct verb verb_generate = {
    .name = "generate",
    .usage = "RUN|CHECKPOINT|FILE.b158 [section.key=value ...]",
    .summary = "continue a text with a trained model",
    .doc = "Loads the newest checkpoint of a run and continues each prompt until the model ends the\n"
           "document, a stop string appears, or -n tokens are drawn.  One prompt streams to stdout as\n"
           "it is drawn; several run together and come out in order, each exactly as it would alone.\n"
           "\n"
           "Without a flag, [generate] of the run's configuration decides; -n, --temperature, --top-k,\n"
           "--top-p, --repetition-penalty and --seed stand for generate.max_new_tokens and so on.\n"
           "\n"
           "A session file holds a stream: its state and its last tokens.  Going on from one gives what\n"
           "one longer run with the same options would have given, bit for bit.",
    .examples = "chimera generate runs/quickstart -p \"The \" -n 200\n"
                "chimera generate runs/quickstart --prompts questions.txt -o jsonl\n"
                "chimera generate runs/quickstart -p \"Once\" --save-session story\n"
                "chimera generate runs/quickstart --load-session story -n 500\n",
    .flags = flags,
    .min_words = 1,
    .max_words = 1,
    .run = run
};
