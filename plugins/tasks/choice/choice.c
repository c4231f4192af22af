/* choice - questions with several choices, from files of JSON lines.
 *
 * A line is one question:
 *
 *     {"context": "The sky is", "choices": ["blue", "made of cheese"], "answer": 0, "slice": "easy"}
 *
 * Held-out documents are context and choice for every choice, of which the core scores
 * the choice's tokens alone.  What is trained on is the text with the right choice.   */
#include <chimera/data.h>
#include <chimera/plugin.h>
#include <stdio.h>
#include <string.h>

struct conf {
    const char *train, *heldout;
    bool space;
};

enum { CHOICES = 64, SLICES = 64 };

struct item {
    struct chi_document doc;
    struct chi_choice   choice;
};

struct split {
    struct item *item;                      /* [room]                                 */
    int64_t n, room, questions;
    const char *option, *path;
};

struct task {
    struct split split[CHI_SPLITS];
    const char *slice[SLICES + 1];
    int32_t n_slice;
};

struct reading {                            /* what the reader's callback needs       */
    const struct chi_host *h;
    const struct chi_json *json;
    struct task  *task;
    struct split *into;
    bool heldout, space;
};

/* ---- one line --------------------------------------------------------------------- */

struct line {
    const char *at;                         /* "file:3"                               */
    const struct chi_json_value *context, *choices;
    int64_t answer;
    int32_t slice;
};

static const struct chi_json_value *member(const struct chi_json_value *o, const char *key)
{
    for (int64_t i = 0; i < o->n; i++)
        if (!strcmp(o->item[i].key, key)) return &o->item[i];
    return NULL;
}

static const char *kind(const struct chi_json_value *v)
{
    static const char *const name[] = { "null", "true or false", "a number", "a text", "a list", "an object" };
    return v ? name[v->type] : "nothing";
}

static chi_status read_context(const struct reading *r, struct line *l, const struct chi_json_value *v)
{
    const struct chi_json_value *context = member(v, "context"), *question = member(v, "question");
    if (context && question)
        return r->h->fail(r->h, CHI_EDATA, "%s: found \"context\" and \"question\", wanted one of them", l->at);
    l->context = context ? context : question;
    if (l->context && l->context->type == CHI_JSON_TEXT) return CHI_OK;
    return r->h->fail(r->h, CHI_EDATA, "%s: found %s as \"%s\", wanted a text", l->at, kind(l->context),
                      question ? "question" : "context");
}

static chi_status read_choices(const struct reading *r, struct line *l, const struct chi_json_value *v)
{
    const struct chi_json_value *c = l->choices = member(v, "choices");
    if (!c || c->type != CHI_JSON_LIST || c->n < 2 || c->n > CHOICES)
        return r->h->fail(r->h, CHI_EDATA, "%s: found %s%s as \"choices\", wanted a list of 2..%d texts", l->at,
                          kind(c),
                          !c || c->type != CHI_JSON_LIST ? "" : c->n < 2 ? " of less than 2" : " that is longer",
                          CHOICES);
    for (int64_t i = 0; i < c->n; i++)
        if (c->item[i].type != CHI_JSON_TEXT || !c->item[i].n)
            return r->h->fail(r->h, CHI_EDATA, "%s: found %s as choice %lld, wanted a text that is not empty", l->at,
                              c->item[i].type == CHI_JSON_TEXT ? "an empty text" : kind(&c->item[i]), (long long)i);
    return CHI_OK;
}

static chi_status read_answer(const struct reading *r, struct line *l, const struct chi_json_value *v)
{
    const struct chi_json_value *a = member(v, "answer");
    if (!a || a->type != CHI_JSON_NUMBER)
        return r->h->fail(r->h, CHI_EDATA, "%s: found %s as \"answer\", wanted the index of a choice", l->at,
                          kind(a));
    if (!(a->number >= 0 && a->number < (double)l->choices->n) || a->number != (double)(int64_t)a->number)
        return r->h->fail(r->h, CHI_EDATA, "%s: found the answer %g, wanted the index of a choice, 0..%lld", l->at,
                          a->number, (long long)l->choices->n - 1);
    l->answer = (int64_t)a->number;
    return CHI_OK;
}

static chi_status read_slice(const struct reading *r, struct line *l, const struct chi_json_value *v)
{
    const struct chi_json_value *s = member(v, "slice");
    struct task *t = r->task;
    l->slice = -1;
    if (!s) return CHI_OK;
    if (s->type != CHI_JSON_TEXT || !s->n || strspn(s->text, "abcdefghijklmnopqrstuvwxyz0123456789_") != (size_t)s->n)
        return r->h->fail(r->h, CHI_EDATA, "%s: found %s%s%s as \"slice\", wanted a name of a-z, 0-9 and _", l->at,
                          s->type == CHI_JSON_TEXT ? "'" : kind(s), s->type == CHI_JSON_TEXT ? s->text : "",
                          s->type == CHI_JSON_TEXT ? "'" : "");
    if (!r->heldout) return CHI_OK;
    for (l->slice = 0; l->slice < t->n_slice; l->slice++)
        if (!strcmp(t->slice[l->slice], s->text)) return CHI_OK;
    if (t->n_slice == SLICES)
        return r->h->fail(r->h, CHI_EDATA, "%s: found the slice '%s' after %d others, wanted at most %d", l->at,
                          s->text, SLICES, SLICES);
    t->slice[t->n_slice++] = s->text;
    return CHI_OK;
}

/* ---- documents ---------------------------------------------------------------------- */

static struct item *grow(const struct chi_host *h, struct split *s)
{
    if (s->n < s->room) return &s->item[s->n++];
    int64_t room = s->room ? 2 * s->room : 64;
    struct item *more = h->alloc(h, (size_t)room * sizeof *more);
    if (!more) return NULL;
    if (s->n) memcpy(more, s->item, (size_t)s->n * sizeof *more);
    s->room = room;
    s->item = more;
    return &s->item[s->n++];
}

static bool is_taken(const struct reading *r, const struct line *l, int64_t k)
{
    return r->heldout || k == l->answer;
}

/* Texts stand one behind the other in one block; before the first is the line's name    */
static chi_status add_question(const struct reading *r, const struct line *l)
{
    int64_t ctx = l->context->n, blank = r->space, bytes = (int64_t)strlen(l->at) + 1;
    for (int64_t k = 0; k < l->choices->n; k++)
        bytes += is_taken(r, l, k) ? ctx + blank + l->choices->item[k].n : 0;
    char *p = r->h->alloc(r->h, (size_t)bytes);
    if (!p) return CHI_ENOMEM;
    const char *name = strcpy(p, l->at);
    p += strlen(p) + 1;
    for (int64_t k = 0; k < l->choices->n; k++) {
        const struct chi_json_value *c = &l->choices->item[k];
        struct item *to = is_taken(r, l, k) ? grow(r->h, r->into) : NULL;
        if (!is_taken(r, l, k)) continue;
        if (!to) return CHI_ENOMEM;
        *to = (struct item){
            .doc = { .name = name, .text = (unsigned char *)p, .n = ctx + blank + c->n },
            .choice = { .question = r->into->questions, .context = ctx, .bytes = c->n, .slice = l->slice,
                        .right = k == l->answer },
        };
        memcpy(p, l->context->text, (size_t)ctx);
        if (blank) p[ctx] = ' ';
        memcpy(p + ctx + blank, c->text, (size_t)c->n);
        p += to->doc.n;
    }
    r->into->questions++;
    return CHI_OK;
}

static chi_status add_line(const struct reading *r, const char *at, const char *text, int64_t n)
{
    struct line l = { .at = at };
    const struct chi_json_value *v;
    chi_status s = r->json->parse(r->h, at, text, n, &v);
    if (s != CHI_OK) return s;
    if (v->type != CHI_JSON_OBJECT)
        return r->h->fail(r->h, CHI_EDATA, "%s: found %s, wanted an object with context, choices and answer", at,
                          kind(v));
    if ((s = read_context(r, &l, v)) != CHI_OK || (s = read_choices(r, &l, v)) != CHI_OK
        || (s = read_answer(r, &l, v)) != CHI_OK || (s = read_slice(r, &l, v)) != CHI_OK) return s;
    return add_question(r, &l);
}

static chi_status add_file(void *ctx, const char *name, const unsigned char *bytes, int64_t n)
{
    const struct reading *r = ctx;
    const char *p = (const char *)bytes, *end = p + n;
    for (int64_t line = 1; p < end; line++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end, *q = p;
        char at[1200];
        while (q < stop && (*q == ' ' || *q == '\t' || *q == '\r')) q++;
        snprintf(at, sizeof at, "%s:%lld", name, (long long)line);
        chi_status s = q < stop ? add_line(r, at, p, stop - p) : CHI_OK;
        if (s != CHI_OK) return s;
        p = nl ? nl + 1 : end;
    }
    return CHI_OK;
}

/* ---- the task -------------------------------------------------------------------------- */

/* "file:3" and "file:7" are of one file                                                  */
static bool same_file(const char *a, const char *b)
{
    size_t n = (size_t)(strrchr(a, ':') - a), m = (size_t)(strrchr(b, ':') - b);
    return n == m && !memcmp(a, b, n);
}

/* The first items of each file of both splits; a file in both would make the measure worthless */
static chi_status check_apart(const struct chi_host *h, const struct task *t)
{
    const struct split *a = &t->split[CHI_SPLIT_TRAIN], *b = &t->split[CHI_SPLIT_HELDOUT];
    for (int64_t i = 0; i < a->n; i++) {
        if (i && same_file(a->item[i - 1].doc.name, a->item[i].doc.name)) continue;
        for (int64_t j = 0; j < b->n; j++) {
            if (j && same_file(b->item[j - 1].doc.name, b->item[j].doc.name)) continue;
            if (same_file(a->item[i].doc.name, b->item[j].doc.name))
                return h->fail(h, CHI_EDATA,
                               "the file of %s is in both train = %s and heldout = %s: what is trained on "
                               "cannot be held out; take it from one of them", a->item[i].doc.name, a->path, b->path);
        }
    }
    return CHI_OK;
}

static chi_status read_split(struct reading *r, const struct chi_files *files, int split)
{
    r->into = &r->task->split[split];
    r->heldout = split == CHI_SPLIT_HELDOUT;
    if (!r->into->path || !*r->into->path) return CHI_OK;
    chi_status s = files->read(r->h, r->into->path, add_file, r);
    if (s != CHI_OK || r->into->n) return s;
    return r->h->fail(r->h, CHI_EDATA, "%s = %s: found no question, wanted a line for each", r->into->option,
                      r->into->path);
}

static chi_status open_task(const struct chi_host *h, void *self, const void *conf)
{
    const struct conf *c = conf;
    struct task *t = self;
    const struct chi_files *files = h->service(h, "chimera.files/1");
    struct reading r = { .h = h, .json = h->service(h, "chimera.json/1"), .task = t, .space = c->space };
    if (!files || !r.json)
        return h->fail(h, CHI_ENOTSUP, "this program has no %s service (%s)", files ? "JSON" : "file",
                       files ? "chimera.json/1" : "chimera.files/1");
    if ((!c->train || !*c->train) && (!c->heldout || !*c->heldout))
        return h->fail(h, CHI_ECONF, "neither train nor heldout is set: give a file or a folder with questions");
    t->split[CHI_SPLIT_TRAIN]   = (struct split){ .option = "train",   .path = c->train };
    t->split[CHI_SPLIT_HELDOUT] = (struct split){ .option = "heldout", .path = c->heldout };
    for (int i = 0; i < CHI_SPLITS; i++) {
        chi_status s = read_split(&r, files, i);
        if (s != CHI_OK) return s;
    }
    return check_apart(h, t);
}

static int64_t documents(const void *self, int split)
{
    const struct task *t = self;
    return t->split[split].n;
}

static void document(const void *self, int split, int64_t i, struct chi_document *d)
{
    const struct task *t = self;
    *d = t->split[split].item[i].doc;
}

static void choice_of(const void *self, int64_t i, struct chi_choice *c)
{
    const struct task *t = self;
    *c = t->split[CHI_SPLIT_HELDOUT].item[i].choice;
}

static const char *slice(const void *self, int64_t i)
{
    const struct task *t = self;
    return t->slice[i];
}

static const struct chi_option options[] = {
    CHI_PATH(struct conf, train, "", "a file of JSON lines, or a folder of them: what to learn from; empty: nothing",
             0),
    CHI_PATH(struct conf, heldout, "", "likewise: what to measure on; empty: nothing", 0),
    CHI_BOOL(struct conf, space, "yes", "a blank between context and choice, scored with the choice", 0),
    CHI_OPTIONS_END
};

static const struct chi_task_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct task), .open = open_task,
    .documents = documents, .document = document, .slice = slice, .choice = choice_of,
};

static const struct chi_component choice = {
    .struct_size = sizeof choice, .kind = CHI_TASK, .name = "choice", .revision = 1,
    .summary = "questions with several choices", .options = options, .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(choice, .version = "1.0", .license = "MIT", .summary = "questions with several choices",
           .components = CHI_COMPONENTS(&choice));
