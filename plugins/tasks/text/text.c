/* text - plain files as documents.
 *
 * train and heldout are files or folders.  A file is one document; a folder gives one
 * document for each regular file below it, in byte order of the paths, so that the
 * same folder means the same order on every machine.  What cannot be meant is refused:
 * nothing to learn from or to measure on, binary data, held-out text that is trained
 * on.                                                                                */
#include <chimera/data.h>
#include <chimera/plugin.h>
#include <string.h>

struct text_conf {
    const char *train, *heldout;
    bool binary;
};

struct split {
    struct chi_document *doc;               /* [room]                                 */
    int64_t n, room, bytes;
    const char *option, *path;
};

struct text {
    struct split split[CHI_SPLITS];
};

/* What the reader's callback needs                                                    */
struct reading {
    const struct chi_host *h;
    struct split *into;
    bool binary;
};

static struct chi_document *grow(const struct chi_host *h, struct split *s)
{
    if (s->n < s->room) return s->doc;
    int64_t room = s->room ? 2 * s->room : 64;
    struct chi_document *d = h->alloc(h, (size_t)room * sizeof *d);
    if (!d) return NULL;
    if (s->n) memcpy(d, s->doc, (size_t)s->n * sizeof *d);
    s->room = room;
    return s->doc = d;
}

static chi_status add_document(void *ctx, const char *name, const unsigned char *bytes, int64_t n)
{
    struct reading *r = ctx;
    const unsigned char *nul = n ? memchr(bytes, 0, (size_t)n) : NULL;
    if (nul && !r->binary)
        return r->h->fail(r->h, CHI_EDATA, "%s = %s: binary data (byte %lld is NUL), not text: "
                          "remove the file, or set binary = yes if it is meant",
                          r->into->option, name, (long long)(nul - bytes));
    size_t len = strlen(name) + 1;
    char *copy = r->h->alloc(r->h, len);
    if (!copy || !grow(r->h, r->into)) return CHI_ENOMEM;
    memcpy(copy, name, len);
    r->into->doc[r->into->n++] = (struct chi_document){ .name = copy, .text = bytes, .n = n };
    r->into->bytes += n;
    return CHI_OK;
}

static chi_status read_split(const struct chi_host *h, const struct chi_files *files,
                             struct split *s, bool binary)
{
    struct reading r = { h, s, binary };
    chi_status status = files->read(h, s->path, add_document, &r);
    if (status != CHI_OK) return status;
    if (!s->bytes)
        return h->fail(h, CHI_EDATA, "%s = %s: no text in %lld file(s): the corpus is empty",
                       s->option, s->path, (long long)s->n);
    if (s->bytes < 2)
        return h->fail(h, CHI_EDATA, "%s = %s: one byte of text is too small a corpus %s; "
                       "give at least 2 bytes", s->option, s->path,
                       strcmp(s->option, "train") ? "to measure on" : "to train on");
    return CHI_OK;
}

/* A path in both splits would make the held-out measure worthless                     */
static chi_status check_apart(const struct chi_host *h, const struct text *t)
{
    const struct split *a = &t->split[CHI_SPLIT_TRAIN], *b = &t->split[CHI_SPLIT_HELDOUT];
    for (int64_t i = 0, j = 0; i < a->n && j < b->n;) {     /* both are sorted        */
        int order = strcmp(a->doc[i].name, b->doc[j].name);
        if (!order)
            return h->fail(h, CHI_EDATA, "%s is in both train = %s and heldout = %s: what is "
                           "trained on cannot be held out; take it from one of them",
                           a->doc[i].name, a->path, b->path);
        if (order < 0) i++;
        else j++;
    }
    return CHI_OK;
}

static chi_status text_open(const struct chi_host *h, void *self, const void *conf)
{
    const struct text_conf *c = conf;
    struct text *t = self;
    const struct chi_files *files = h->service(h, "chimera.files/1");
    if (!files) return h->fail(h, CHI_ENOTSUP, "this program has no file service (chimera.files/1)");
    t->split[CHI_SPLIT_TRAIN]   = (struct split){ .option = "train",   .path = c->train };
    t->split[CHI_SPLIT_HELDOUT] = (struct split){ .option = "heldout", .path = c->heldout };
    for (int i = 0; i < CHI_SPLITS; i++) {
        struct split *s = &t->split[i];
        if (!s->path || !*s->path) {
            if (i == CHI_SPLIT_HELDOUT) continue;
            return h->fail(h, CHI_ECONF, "train is not set: give a file or a folder with text");
        }
        chi_status status = read_split(h, files, s, c->binary);
        if (status != CHI_OK) return status;
    }
    return check_apart(h, t);
}

static int64_t text_documents(const void *self, int split)
{
    const struct text *t = self;
    return t->split[split].n;
}

static void text_document(const void *self, int split, int64_t i, struct chi_document *d)
{
    const struct text *t = self;
    *d = t->split[split].doc[i];
}

static const struct chi_option options[] = {
    CHI_PATH(struct text_conf, train, "", "a text file, or a folder of them: what to learn from", 0),
    CHI_PATH(struct text_conf, heldout, "", "likewise: what to measure on; empty: nothing is measured", 0),
    CHI_BOOL(struct text_conf, binary, "no", "accept files with NUL bytes", 0),
    CHI_OPTIONS_END
};

static const struct chi_task_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct text), .open = text_open,
    .documents = text_documents, .document = text_document,
};

static const struct chi_component text = {
    .struct_size = sizeof text, .kind = CHI_TASK, .name = "text", .revision = 1,
    .summary = "files and folders of text", .options = options,
    .conf_size = sizeof(struct text_conf), .ops = &ops,
};

CHI_PLUGIN(text, .version = "1.0", .license = "MIT", .summary = "files and folders of text",
           .components = CHI_COMPONENTS(&text));
