/* import_numbers.c - chimera import of what chimera export wrote from a packed model: GGUF, or safetensors with
 * floats; it becomes that packed model again.
 *
 * Nothing is believed before it is compared: the header with its hash, each tensor with its line (carry.h), all
 * lines with the tensors that the configuration wants, numbers with what their class and encoding hold.         */
#include "import.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "carry.h"
#include "ckpt.h"
#include "core.h"
#include "export.h"
#include "fs.h"
#include "network.h"
#include "signals.h"

struct source {
    const char *path;
    struct gguf_file *g;                /* this                                                                 */
    struct st_file *s;                  /* or that                                                              */
    struct spec *spec;
    struct model *plan;
    struct carry_line *line; int64_t n;         /* without those of scales                                       */
    struct carry_line *scale;           /* [n]; name empty: none                                                */
    struct packed_entry *entry;         /* [n] in the model's order                                             */
    int64_t *at;                        /* [n] whose lines these are                                             */
};

/* A tensor of the file, whichever kind that is                                                                 */
struct found { int type, n_dim; const int64_t *dim; const void *data; int64_t bytes; };

static bool find(const struct source *x, const char *name, struct found *out)
{
    const struct gguf_tensor *g = x->g ? gguf_find(x->g, name) : NULL;
    const struct st_tensor *s = x->s ? st_find(x->s, name) : NULL;
    if (g) *out = (struct found){ g->type, g->n_dim, g->dim, g->data, g->bytes };
    if (s) *out = (struct found){ s->dtype == ST_F32 ? GGUF_F32 : -1, s->n_dim, s->dim, s->data, s->bytes };
    return g || s;
}

static const char *text_of(const struct source *x, const char *key)
{
    char *full = xprintf("chimera.%s", key);
    const char *text = x->g ? gguf_text(x->g, full) : st_meta(x->s, key);
    free(full);
    return text;
}

static const char *name_at(const struct source *x, int64_t i)
{
    if (x->g) return gguf_at(x->g, i) ? gguf_at(x->g, i)->name : NULL;
    return st_at(x->s, i) ? st_at(x->s, i)->name : NULL;
}

/* ---- the header ------------------------------------------------------------------------------------------ */

static chi_status open_file(struct source *x)
{
    if (fs_begins(x->path, "GGUF")) {
        TRY(gguf_open(&x->g, x->path));
        const char *architecture = gguf_text(x->g, "general.architecture");
        if (!text_of(x, "format"))
            return fail(
                CHI_EDATA,
                "%s is a model of architecture %s and lacks the key chimera.format: import reads the GGUF files "
                "that chimera export writes of its own architecture, and checkpoints in safetensors with a config.json",
                x->path, architecture ? architecture : "unknown");
        TRY(gguf_check_seal(x->g));
    } else {
        TRY(st_open(&x->s, x->path));
        if (!st_sealed(x->s))
            return fail(CHI_EDATA, "%s: its header has lost its XXH3: damaged, or written anew", x->path);
    }
    const char *format = text_of(x, "format"), *want = x->g ? EXPORT_GGUF : EXPORT_FLOATS;
    if (!format || strcmp(format, want) != 0)
        return fail(CHI_EDATA, "%s has format \"%s\", this program reads \"%s\": use the version that wrote it",
                    x->path, format ? format : "none", want);
    if (text_of(x, "config") && text_of(x, "manifest") && text_of(x, "tensors")) return CHI_OK;
    return fail(CHI_EDATA, "%s lacks chimera's config, manifest or tensors", x->path);
}

static chi_status read_lines(struct source *x)
{
    const char *p = text_of(x, "tensors");
    int64_t room = 1;
    for (const char *q = p; *q; q++) room += *q == '\n';
    x->line = xcalloc((size_t)room, sizeof *x->line);
    x->scale = xcalloc((size_t)room, sizeof *x->scale);
    x->entry = xcalloc((size_t)room, sizeof *x->entry);
    x->at = xcalloc((size_t)room, sizeof *x->at);
    while (*p) {
        struct carry_line l;
        if (!carry_line(&p, &l))
            return fail(CHI_EDATA, "%s: its list of tensors goes wrong before \"%.40s\"", x->path, p);
        size_t n = x->n ? strlen(x->line[x->n - 1].name) : 0;
        bool scale = n && *x->line[x->n - 1].encoding && !strncmp(l.name, x->line[x->n - 1].name, n)
                     && !strcmp(l.name + n, ".scale");
        if (scale) x->scale[x->n - 1] = l;
        else x->line[x->n++] = l;
    }
    return CHI_OK;
}

static chi_status open_spec(struct source *x, const struct import_request *q)
{
    struct config *c;
    TRY(config_load_text(&c, x->path, text_of(x, "config"), q->override, q->n_override));
    TRY(spec_open(&x->spec, c, SPEC_MODEL));
    TRY(manifest_text_fits(x->path, text_of(x, "manifest"), x->spec));
    return model_open(&x->plan, x->spec, MODEL_PLAN, 1, 1);
}

/* ---- tensors against lines and the model ------------------------------------------------------------------ */

/* The data of a line's tensor, whose hash is right                                                              */
static chi_status data_of(const struct source *x, const struct carry_line *l, struct found *t)
{
    if (!find(x, l->name, t)) return fail(CHI_EDATA, "%s: tensor %s is missing", x->path, l->name);
    uint64_t hash = xxh3(t->data, (size_t)t->bytes);
    if (hash == l->hash) return CHI_OK;
    return fail(CHI_EDATA, "%s: tensor %s is damaged: its XXH3 is %016llx, its line says %016llx", x->path, l->name,
                (unsigned long long)hash, (unsigned long long)l->hash);
}

static const struct carry_line *line_of(const struct source *x, const char *name, int64_t *i)
{
    for (*i = 0; *i < x->n; ++*i)
        if (!strcmp(x->line[*i].name, name)) return &x->line[*i];
    return NULL;
}

static bool same_shape(const struct found *t, const int64_t *shape)
{
    int dims = 0;
    while (dims < 4 && shape[dims]) dims++;
    return t->n_dim == dims && !memcmp(t->dim, shape, (size_t)dims * sizeof *shape);
}

/* The k-th that the model wants: there, of its shape, encoded if the model encodes it                             */
static chi_status check_tensor(struct source *x, int64_t k, bool encoded)
{
    const struct model_tensor *want = &x->plan->tensor[k];
    struct found t;
    int64_t i;
    const struct carry_line *l = line_of(x, want->name, &i);
    if (!l || !find(x, want->name, &t))
        return fail(CHI_EDATA, "%s: tensor %s is missing, which its configuration wants", x->path, want->name);
    bool matrix = !encoded || (l->rows == want->shape[0] && l->cols == want->shape[1]);
    bool type = encoded ? t.type >= 0 : t.type == GGUF_F32;
    if (!same_shape(&t, want->shape) || !matrix || encoded != (*l->encoding != 0) || !type)
        return fail(CHI_EDATA, "%s: tensor %s has another shape or type than its configuration wants", x->path,
                    want->name);
    x->at[k] = i;
    x->entry[k] = (struct packed_entry){ .name = l->name, .group = l->group };
    memcpy(x->entry[k].shape, want->shape, sizeof want->shape);
    return encoded ? registry_find(x->spec->registry, CHI_ENCODING, l->encoding, &x->entry[k].encoding) : CHI_OK;
}

static chi_status check_scale(const struct source *x, int64_t i)
{
    const struct carry_line *l = &x->line[i], *s = &x->scale[i];
    struct found t;
    int64_t shape[] = { l->rows, ceil_div(l->rows ? l->cols : 1, l->rows ? l->group : 1), 0 };
    if (!*s->name) return CHI_OK;
    if (find(x, s->name, &t) && t.type == GGUF_F32 && same_shape(&t, shape)) return CHI_OK;
    return fail(CHI_EDATA, "%s: tensor %s is missing, or has not the shape of %s's scales", x->path, s->name,
                l->name);
}

static chi_status check_tensors(struct source *x)
{
    const struct model *m = x->plan;
    int64_t k = 0, there = 0, lines = x->n;
    if (x->n != m->n_tensor)
        return fail(CHI_EDATA, "%s lists %lld tensors, its configuration wants %lld", x->path, (long long)x->n,
                    (long long)m->n_tensor);
    for (int64_t i = 0; i < m->n_all; i++)
        for (int64_t j = 0; j < m->all[i]->n_param; j++, k++) {
            const struct chi_linear *l = m->all[i]->param[j].linear;
            TRY(check_tensor(x, k, l && !l->f32_only));
        }
    for (int64_t i = 0; i < x->n; i++) {
        TRY(check_scale(x, i));
        lines += *x->scale[i].name != 0;
    }
    while (name_at(x, there)) there++;
    return there == lines ? CHI_OK
                          : fail(CHI_EDATA, "%s holds %lld tensors, its list names %lld", x->path,
                                 (long long)there, (long long)lines);
}

/* ---- writing ------------------------------------------------------------------------------------------------- */

static chi_status put_matrix(struct source *x, struct packed_writer *w, int64_t k, FILE *report)
{
    int64_t i = x->at[k];
    const struct carry_line *l = &x->line[i];
    const struct chi_component *encoding;
    struct found t, s = { .data = NULL };
    struct weights numbers;
    TRY(data_of(x, l, &t));
    if (*x->scale[i].name) TRY(data_of(x, &x->scale[i], &s));
    TRY(carry_in(&numbers, l, t.type, t.data, s.data, x->spec->registry, &encoding));
    chi_status st = weights_held(&numbers, encoding->ops) ? CHI_OK
        : fail(CHI_EDATA, "%s: %s does not hold the numbers of tensor %s", x->path, l->encoding, l->name);
    if (st == CHI_OK) st = packed_put(w, k, 0, l->rows, numbers.q, numbers.scale);
    weights_drop(&numbers);
    if (st == CHI_OK)
        fprintf(report, "%-28s %lld x %lld  %s -> %s  exact\n", l->name, (long long)l->rows, (long long)l->cols,
                gguf_type_name(t.type), l->encoding);
    return st;
}

/* An F32 tensor that the model does not encode                                                                  */
static chi_status put_floats(const struct source *x, struct packed_writer *w, int64_t k)
{
    const struct carry_line *l = &x->line[x->at[k]];
    struct found t;
    TRY(data_of(x, l, &t));
    const float *v = t.data;
    for (int64_t i = 0; i < t.bytes / (int64_t)sizeof *v; i++)
        if (!isfinite(v[i]))
            return fail(CHI_EDATA, "%s: tensor %s holds a value that is not finite", x->path, l->name);
    return packed_put(w, k, 0, t.dim[0], NULL, v);
}

static chi_status put_all(struct source *x, struct packed_writer *w, FILE *report)
{
    for (int64_t k = 0; k < x->n; k++) {
        TRY(signals_stop());
        if (x->entry[k].encoding) TRY(put_matrix(x, w, k, report));
        else TRY(put_floats(x, w, k));
    }
    return CHI_OK;
}

/* The packed model is the one that went out: nothing but this run of the program can be told anything            */
static chi_status check_overrides(const struct import_request *q)
{
    for (int i = 0; i < q->n_override; i++)
        if (strncmp(q->override[i], "run.", 4) != 0 && strncmp(q->override[i], "plugins.", 8) != 0)
            return fail(CHI_ECONF, "%s: %s becomes the packed model that it was made from, and keeps its configuration: "
                        "say this to convert, generate or eval", q->override[i], q->subject);
    return CHI_OK;
}

static chi_status import_source(struct source *x, const struct import_request *q, FILE *report)
{
    struct packed_writer *w;
    TRY(check_overrides(q));
    TRY(open_file(x));
    TRY(read_lines(x));
    TRY(open_spec(x, q));
    TRY(check_tensors(x));
    TRY(packed_create(&w, q->out, text_of(x, "config"), text_of(x, "manifest"), x->entry, x->n));
    chi_status s = put_all(x, w, report);
    if (s == CHI_OK) return packed_finish(w);
    packed_abandon(w);
    return s;
}

chi_status import_numbers(const struct import_request *q, FILE *report)
{
    struct source x = { .path = q->subject };
    chi_status s = import_source(&x, q, report);
    char *why = s == CHI_OK ? NULL : xstrdup(fail_text());
    free(x.line);
    free(x.scale);
    free(x.entry);
    free(x.at);
    model_close(x.plan);
    spec_close(x.spec);
    gguf_close(x.g);
    st_close(x.s);
    if (why) fail(s, "%s", why);
    free(why);
    return s;
}
