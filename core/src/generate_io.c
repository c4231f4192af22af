/* generate_io.c - see generate_io.h.                                               */
#include "generate_io.h"

#include "core.h"
#include "fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TITLE = 60 };

/* ---- output ------------------------------------------------------------------ */

chi_status text_add(void *ctx, const char *bytes, int64_t n)
{
    struct text *t = ctx;
    if (t->n + n > t->room) t->b = xrealloc(t->b, (size_t)(t->room = 2 * (t->n + n) + 256));
    memcpy(t->b + t->n, bytes, (size_t)n);
    t->n += n;
    return CHI_OK;
}

void text_say(struct text *t, const char *s)
{
    (void)text_add(t, s, (int64_t)strlen(s));
}

/* bytes as valid UTF-8                                                           */
static chi_status add_valid(struct text *t, const unsigned char *bytes, int64_t n)
{
    struct text_out o;
    TRY(text_out_open(&o, NULL, 0, text_add, t));
    chi_status s = text_out_put(&o, bytes, n);
    if (s == CHI_OK) s = text_out_end(&o);
    text_out_close(&o);
    return s;
}

static void add_json(struct text *t, const char *b, int64_t n)
{
    char escape[8];
    text_say(t, "\"");
    for (int64_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)b[i];
        if (c == '"' || c == '\\') snprintf(escape, sizeof escape, "\\%c", c);
        else if (c == '\n') snprintf(escape, sizeof escape, "\\n");
        else if (c < 0x20 || c == 0x7f) snprintf(escape, sizeof escape, "\\u%04x", c);
        else snprintf(escape, sizeof escape, "%c", c);
        (void)text_add(t, escape, (int64_t)strlen(escape));
    }
    text_say(t, "\"");
}

/* Ids with blanks between, as a list                                             */
static void add_ids(struct text *t, const char *b, int64_t n)
{
    text_say(t, "[");
    for (int64_t i = 0; i < n; i++) (void)text_add(t, b[i] == ' ' ? "," : b + i, 1);
    text_say(t, "]");
}

chi_status completion_line(struct text *to, int64_t index, const struct prompt *p,
                           const struct completion *c, const struct text *text)
{
    struct text prompt = { 0 };
    void (*put)(struct text *, const char *, int64_t) = p->id ? add_ids : add_json;
    chi_status s = add_valid(&prompt, p->text, p->n);
    char *head = xprintf("{\"index\":%lld,\"stream\":%llu,\"prompt%s\":", (long long)index,
                         (unsigned long long)c->stream->id, p->id ? "_ids" : "");
    char *tail = xprintf(",\"tokens\":%lld,\"end\":\"%s\"}\n", (long long)c->drawn,
                         generate_end_names[c->end]);
    text_say(to, head);
    put(to, prompt.b, prompt.n);
    text_say(to, p->id ? ",\"ids\":" : ",\"text\":");
    put(to, text->b, text->n);
    text_say(to, tail);
    free(tail);
    free(head);
    free(prompt.b);
    return s;
}

chi_status completion_block(struct text *to, int64_t index, const struct prompt *p,
                            const struct text *text)
{
    char *head = xprintf("%s==> %lld: ", index ? "\n" : "", (long long)index + 1);
    text_say(to, head);
    free(head);
    int64_t at = to->n;
    int64_t n = min_i64(p->n, TITLE);
    while (n < p->n && n > 0 && (p->text[n] & 0xc0) == 0x80) n--;
    TRY(add_valid(to, p->text, n));
    for (; at < to->n; at++)
        if ((unsigned char)to->b[at] < ' ') to->b[at] = ' ';
    text_say(to, n < p->n ? "... <==\n" : " <==\n");
    TRY(text_add(to, text->b, text->n));
    if (!text->n || text->b[text->n - 1] != '\n') text_say(to, "\n");
    return CHI_OK;
}

/* ---- prompts ----------------------------------------------------------------- */

void prompts_add(struct prompts *all, const void *text, int64_t n)
{
    all->v = xrealloc(all->v, (size_t)(all->n + 1) * sizeof *all->v);
    struct prompt *p = &all->v[all->n++];
    *p = (struct prompt){ .text = xcalloc((size_t)n + 1, 1), .n = n };
    if (n) memcpy(p->text, text, (size_t)n);
}

chi_status prompts_add_ids(struct prompts *all, const char *list, bool may_be_none)
{
    int32_t *id;
    int64_t n;
    struct text t = { 0 };
    char number[16];
    if (may_be_none && !list[strspn(list, ", \t\r\n")]) {
        prompts_add(all, "", 0);
        all->v[all->n - 1].id = xcalloc(1, sizeof *id);
        return CHI_OK;
    }
    TRY(ids_parse(list, "--ids", &id, &n));
    for (int64_t i = 0; i < n; i++) {
        snprintf(number, sizeof number, "%s%ld", i ? " " : "", (long)id[i]);
        text_say(&t, number);
    }
    prompts_add(all, t.b, t.n);
    all->v[all->n - 1].id = id;
    all->v[all->n - 1].n_id = n;
    free(t.b);
    return CHI_OK;
}

static chi_status read_stdin(struct text *t)
{
    char part[4096];
    for (ssize_t k; (k = read(STDIN_FILENO, part, sizeof part)) != 0;) {
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return fail_errno(CHI_EIO, "cannot read stdin");
        TRY(text_add(t, part, k));
    }
    return CHI_OK;
}

static void add_lines(struct prompts *all, const char *b, int64_t n)
{
    for (int64_t at = 0, end; at < n; at = end + 1) {
        const char *nl = memchr(b + at, '\n', (size_t)(n - at));
        end = nl ? nl - b : n;
        prompts_add(all, b + at, end - at);
    }
}

chi_status named_file(const char *flag, const char *path, const char *wanted)
{
    if (fs_is_dir(path)) return fail(CHI_ECONF, "%s %s: a folder; wanted is %s", flag, path, wanted);
    return fs_exists(path) ? CHI_OK : fail(CHI_ECONF, "%s %s: no such file; wanted is %s", flag, path, wanted);
}

chi_status prompts_add_file(struct prompts *all, const char *path, bool lines)
{
    struct text in = { 0 };
    unsigned char *bytes = NULL;
    chi_status s = CHI_OK;
    if (strcmp(path, "-")) {
        TRY(named_file(lines ? "--prompts" : "--prompt-file", path, "a file with prompts"));
        TRY(fs_read(path, &bytes, &in.n));
    } else
        s = read_stdin(&in);
    const char *b = bytes ? (const char *)bytes : in.b;
    if (s == CHI_OK && lines) add_lines(all, b, in.n);
    else if (s == CHI_OK) prompts_add(all, b, in.n);
    mem_free(bytes);
    free(in.b);
    return s;
}

void prompts_free(struct prompts *all)
{
    for (int64_t i = 0; i < all->n; i++) {
        free(all->v[i].text);
        free(all->v[i].id);
    }
    free(all->v);
}
