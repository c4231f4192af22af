/* convert.c - chimera convert: a packed model from a run, a checkpoint or another packed model.
 *
 * Two passes over the tensors, one at a time in memory: the first finds out what each can become, lists what is
 * refused, and hashes the bytes, since hashes stand in the header; the second makes the same bytes again and
 * writes them.  Nothing is written before all is decided, and the file appears under its name when it is whole. */
#include "convert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ckpt.h"
#include "core.h"
#include "fit.h"
#include "fs.h"
#include "network.h"
#include "progress.h"

struct item {
    const struct model_tensor *t;
    const struct chi_linear *l;         /* NULL: stays F32                                        */
    const struct chi_component *to;     /* encoding                                               */
    bool    nearly;                     /* only with a loss                                       */
    int64_t group, bytes;
    uint64_t hash, values;              /* XXH3 of the bytes, of the numbers                      */
    double  error;
};

struct convert {
    const struct convert_request *request;
    struct spec *spec;
    struct model *plan;
    struct st_file *masters;            /* of a checkpoint; else spec->packed                     */
    char *manifest, *out;
    struct item *item; int64_t n;
    char *refused; int64_t n_refused;   /* why the first is, how many                             */
    FILE *others;                       /* names of the others                                    */
    char *other_names; size_t other_len;
    struct progress progress;
};

/* ---- where from ------------------------------------------------------------------------------------- */

static char *without(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    while (n > 1 && text[n - 1] == '/') n--;
    if (n > m && !strncmp(text + n - m, end, m)) n -= m;
    return xprintf("%.*s", (int)n, text);
}

/* The manifest without what is about its files                                                       */
static chi_status take_manifest(struct convert *c, const char *folder)
{
    cJSON *j;
    TRY(manifest_read(folder, &j));
    cJSON_DeleteItemFromObjectCaseSensitive(j, "files");
    cJSON_DeleteItemFromObjectCaseSensitive(j, "xxh3");
    char *text = cJSON_PrintUnformatted(j);
    if (text) c->manifest = xstrdup(text);
    cJSON_free(text);
    cJSON_Delete(j);
    return text ? CHI_OK : fail(CHI_ENOMEM, "no memory for the manifest of %s", folder);
}

static bool is_checkpoint(const char *subject)
{
    char *path = fs_join(subject, "MANIFEST.json");
    bool is = fs_is_dir(subject) && fs_exists(path);
    free(path);
    return is;
}

static chi_status open_masters(struct convert *c, const char *folder)
{
    struct ckpt_meta meta;
    TRY(ckpt_verify(folder));
    TRY(take_manifest(c, folder));
    return ckpt_weights(folder, c->spec, false, &meta, &c->masters);
}

static chi_status open_run(struct convert *c)
{
    const struct convert_request *r = c->request;
    struct config *config;
    char *path;
    TRY(run_config(r->subject, r->override, r->n_override, &config));
    TRY(spec_open(&c->spec, config, SPEC_MODEL));
    if (is_checkpoint(r->subject)) return open_masters(c, r->subject);
    const char *dir = fs_is_dir(r->subject) ? r->subject : c->spec->run.dir;
    TRY(ckpt_latest(dir, &path));
    if (!path) return fail(CHI_EDATA, "%s has no checkpoint yet: train first (chimera train)", dir);
    chi_status s = open_masters(c, path);
    free(path);
    return s;
}

static chi_status open_source(struct convert *c)
{
    const struct convert_request *r = c->request;
    if (packed_is(r->subject)) {
        TRY(run_packed_spec(r->subject, r->override, r->n_override, NULL, SPEC_MODEL, &c->spec));
        c->manifest = xstrdup(packed_manifest(c->spec->packed));
    } else
        TRY(open_run(c));
    const char *name = fs_is_dir(r->subject) || c->spec->packed ? r->subject : c->spec->run.dir;
    char *stem = without(name, ".b158");
    c->out = r->out ? xstrdup(r->out) : xprintf("%s.b158", stem);
    free(stem);
    if (fs_exists(c->out))
        return fail(CHI_ECONF, "%s is there already: remove it, or give another name with -o", c->out);
    return model_open(&c->plan, c->spec, MODEL_PLAN, 1, 1);
}

/* ---- what into ---------------------------------------------------------------------------------------- */

static const char *class_of(const struct chi_linear *l)
{
    return l->quantizer->values;
}

/* Does the n-th -e speak of this matrix?  Without a pattern: of all whose class is that of [linear]        */
static bool speaks_of(const struct convert *c, const char *word, const struct chi_linear *l)
{
    const char *eq = strrchr(word, '=');
    if (!eq) {
        const struct chi_quantizer_ops *usual = c->spec->rule[0].quantizer.component->ops;
        return !strcmp(class_of(l), usual->values);
    }
    char *pattern = xprintf("%.*s", (int)(eq - word), word);
    bool yes = spec_matches(pattern, l->name);
    free(pattern);
    return yes;
}

static chi_status choose_encoding(const struct convert *c, const char *word, int64_t *used)
{
    const struct chi_component *to;
    const char *eq = strrchr(word, '=');
    *used = 0;
    TRY(registry_find(c->spec->registry, CHI_ENCODING, eq ? eq + 1 : word, &to));
    for (int64_t i = 0; i < c->n; i++)
        if (c->item[i].l && speaks_of(c, word, c->item[i].l)) {
            c->item[i].to = to;
            ++*used;
        }
    return CHI_OK;
}

/* All tensors of the model, each with the encoding that it has now                                          */
static chi_status list_items(struct convert *c)
{
    const struct model *m = c->plan;
    int64_t used;
    c->item = xcalloc((size_t)m->n_tensor, sizeof *c->item);
    for (int64_t i = 0; i < m->n_all; i++)
        for (int64_t j = 0; j < m->all[i]->n_param; j++) {
            struct item *it = &c->item[c->n];
            const struct chi_linear *l = m->all[i]->param[j].linear;
            *it = (struct item){ .t = &m->tensor[c->n], .l = l && !l->f32_only ? l : NULL };
            if (it->l) TRY(registry_find(c->spec->registry, CHI_ENCODING, l->encoding_name, &it->to));
            c->n++;
        }
    for (int i = 0; i < c->request->n_encoding; i++) {
        TRY(choose_encoding(c, c->request->encoding[i], &used));
        if (!used)
            return fail(CHI_ECONF, "-e %s: no weights of this model match; their names are such as layers.0.mixer.q_proj and "
                        "embed (chimera inspect)", c->request->encoding[i]);
    }
    return CHI_OK;
}

/* ---- one tensor ------------------------------------------------------------------------------------------- */

/* The float values of a tensor, which are as many as the model wants                                        */
static chi_status read_floats(const struct convert *c, const struct item *it, const float **values, float **own)
{
    const struct packed_tensor *p = c->spec->packed ? packed_find(c->spec->packed, it->t->name) : NULL;
    const struct st_tensor *t = c->masters ? st_find(c->masters, it->t->name) : p ? p->t : NULL;
    const char *path = c->masters ? st_path(c->masters) : packed_path(c->spec->packed);
    *own = NULL;
    if (!t || t->n != it->t->n || (p && *p->encoding))
        return fail(CHI_EDATA, "%s has no tensor %s of %lld values: it belongs to another model", path, it->t->name,
                    (long long)it->t->n);
    if (c->masters) return st_floats(c->masters, t, values, own);
    *values = t->data;
    return packed_check(c->spec->packed, p);
}

static chi_status read_weights(const struct convert *c, const struct item *it, struct weights *w)
{
    const struct chi_linear *l = it->l;
    bool integer = l->encoding->portable->integer;
    if (!c->spec->packed) {
        const float *masters;
        float *own;
        TRY(weights_take(w, integer, l->d_out, l->d_in, l->group, l->name));
        chi_status s = read_floats(c, it, &masters, &own);
        if (s == CHI_OK) s = weights_quantize(w, &l->rule->quantizer, masters, l->name);
        mem_free(own);
        if (s != CHI_OK) weights_drop(w);
        return s;
    }
    const struct packed_tensor *p = packed_find(c->spec->packed, it->t->name);     /* linear_choose() found it  */
    TRY(packed_check(c->spec->packed, p));
    TRY(weights_take(w, integer, l->d_out, l->d_in, l->group, l->name));
    weights_decode(w, l->encoding, p->t->data);
    if (values_fit(l->encoding->values, w->q, w->scale, w->rows * w->cols, w->rows * w->groups)) return CHI_OK;
    weights_drop(w);
    return fail(CHI_EDATA, "%s: %s holds numbers that are no %s weights: another program wrote it, or it was changed",
                packed_path(c->spec->packed), it->t->name, l->encoding->values);
}

/* The input of integer weights may be normalised first (extra_rmsnorm), that of floats is not               */
static chi_status check_kind(const struct item *it)
{
    const struct chi_encoding_ops *to = it->to->ops;
    if (!it->l->rule->o.extra_rmsnorm || to->portable->integer == it->l->encoding->portable->integer) return CHI_OK;
    return fail(CHI_ECONF, "%s: %s weights would change what extra_rmsnorm does to their input: it is for integers only",
                it->l->name, to->values);
}

static uint64_t hash_values(const struct item *it, const struct weights *w)
{
    struct { uint64_t name, q, scale; int64_t group; } all = {
        .name = xxh3(it->t->name, strlen(it->t->name)), .q = w->q ? xxh3(w->q, (size_t)(w->rows * w->cols)) : 0,
        .scale = xxh3(w->scale, (size_t)(w->rows * w->groups) * sizeof *w->scale), .group = w->group,
    };
    return xxh3(&all, sizeof all);
}

/* The bytes of a matrix in its new encoding                                                                  */
static chi_status encode_item(const struct convert *c, struct item *it, void **bytes)
{
    const struct chi_encoding_ops *to = it->to->ops;
    struct weights w, near = { .rows = 0 };
    *bytes = NULL;
    TRY(read_weights(c, it, &w));
    const struct weights *what = &w;
    chi_status s = it->nearly ? CHI_ECONF : fit_exact(&w, it->l->encoding->values, it->to, it->l->name, bytes);
    if (s == CHI_ECONF && c->request->requantize) {
        it->nearly = true;
        s = check_kind(it);
        if (s == CHI_OK)
            s = fit_nearly(&w, &it->l->rule->quantizer, c->spec->registry, it->to, it->l->name, &near, &it->error);
        if (s == CHI_OK) s = fit_exact(&near, to->values, it->to, it->l->name, bytes);
        what = &near;
    }
    if (s == CHI_OK) {
        it->group = what->group;
        it->bytes = to->bytes(what->rows, what->cols, what->group);
        it->values = hash_values(it, what);
    }
    weights_drop(&w);
    weights_drop(&near);
    return s;
}

/* f() of the tensor's bytes as they are in the file                                                            */
static chi_status with_bytes(struct convert *c, struct item *it, chi_status (*f)(void *, struct item *, const void *),
                             void *arg)
{
    void *own = NULL;
    const void *bytes = NULL;
    chi_status s;
    if (it->l) {
        s = encode_item(c, it, &own);
        bytes = own;
    } else {
        const float *values = NULL;
        float *wider;
        s = read_floats(c, it, &values, &wider);
        it->bytes = it->t->n * (int64_t)sizeof *values;
        bytes = values;
        own = wider;
    }
    if (s == CHI_OK) s = f(arg, it, bytes);
    mem_free(own);
    return s;
}

/* ---- the first pass ---------------------------------------------------------------------------------------- */

static chi_status hash_item(void *arg, struct item *it, const void *bytes)
{
    (void)arg;
    it->hash = xxh3(bytes, (size_t)it->bytes);
    if (!it->l) it->values = it->hash;
    return CHI_OK;
}

static void refuse(struct convert *c, const struct item *it)
{
    enum { NAMED = 6 };
    if (!c->n_refused++) c->refused = xstrdup(fail_text());
    else if (c->n_refused <= NAMED) fprintf(c->others, "%s%s", c->n_refused == 2 ? "" : ", ", it->l->name);
}

static chi_status refusal(struct convert *c)
{
    fflush(c->others);
    const char *form = c->n_refused > 6 ? "; also %s and %lld more" : c->n_refused > 1 ? "; also %s" : "%.0s";
    char *others = xprintf(form, c->other_names, (long long)(c->n_refused - 6));
    chi_status s = fail(CHI_ECONF, "%s%s; %s-e NAME=ENCODING gives it another encoding", c->refused, others,
                        c->request->requantize ? "" : "--requantize accepts a loss and reports it, ");
    free(others);
    return s;
}

static chi_status decide(struct convert *c)
{
    c->others = open_memstream(&c->other_names, &c->other_len);
    if (!c->others) return fail(CHI_ENOMEM, "no memory for a list of names");
    for (int64_t i = 0; i < c->n; i++) {
        chi_status s = with_bytes(c, &c->item[i], hash_item, NULL);
        if (s == CHI_ECONF && c->item[i].l) refuse(c, &c->item[i]);
        else TRY(s);
        progress_part(&c->progress, "checking weights", i + 1, c->n);
    }
    return c->n_refused ? refusal(c) : CHI_OK;
}

static void say(const struct convert *c, FILE *f)
{
    for (int64_t i = 0; i < c->n; i++) {
        const struct item *it = &c->item[i];
        if (!it->l) continue;
        fprintf(f, "%-28s %lld x %lld  %s -> %s  %lld bytes  ", it->l->name, (long long)it->l->d_out, (long long)it->l->d_in,
                it->l->encoding_name, it->to->name, (long long)it->bytes);
        if (it->nearly) fprintf(f, "error %.3e\n", it->error);
        else fputs("exact\n", f);
    }
}

/* ---- the second pass: writing ------------------------------------------------------------------------------- */

static int64_t pad_of(const struct item *it)
{
    return round_up(it->bytes, 64) - it->bytes;
}

/* The configuration, which need not say in which encodings the file is                                         */
static chi_status put_config(const struct convert *c, struct st_writer *w)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    for (int64_t i = 0; i < c->spec->n_rule; i++) {
        const char *pattern = c->spec->rule[i].pattern;
        char *section = i ? xprintf("linear.%s", pattern) : xstrdup("linear");
        config_show(c->spec->config, section, "encoding", "");
        free(section);
    }
    if (f) config_print(c->spec->config, f, false);
    bool ok = f && fclose(f) == 0;
    if (ok) st_put_meta(w, "config", text);
    free(text);
    return ok ? CHI_OK : fail(CHI_ENOMEM, "no memory for the text of a configuration");
}

static void put_lines(const struct convert *c, struct st_writer *w)
{
    uint64_t *all = xcalloc((size_t)c->n, sizeof *all);
    char hex[20];
    for (int64_t i = 0; i < c->n; i++) {
        const struct item *it = &c->item[i];
        char *line = it->l ? xprintf("encoding=%s shape=%lldx%lld group=%lld act_block=%d xxh3=%016" PRIx64, it->to->name,
                                     (long long)it->l->d_out, (long long)it->l->d_in, (long long)it->group, CHI_ACT_BLOCK,
                                     it->hash)
                           : xprintf("xxh3=%016" PRIx64, it->hash);
        st_put_meta(w, it->t->name, line);
        free(line);
        all[i] = it->values;
    }
    snprintf(hex, sizeof hex, "%016" PRIx64, xxh3(all, (size_t)c->n * sizeof *all));
    st_put_meta(w, "values", hex);
    free(all);
}

static void announce(const struct convert *c, struct st_writer *w)
{
    char name[32];
    for (int64_t i = 0; i < c->n; i++) {
        const struct item *it = &c->item[i];
        int64_t n = it->bytes, pad = pad_of(it), dims = 0;
        while (dims < 4 && it->t->shape[dims]) dims++;
        if (it->l) st_add(w, it->t->name, ST_U8, 1, &n);
        else st_add(w, it->t->name, ST_F32, (int)dims, it->t->shape);
        snprintf(name, sizeof name, "pad.%lld", (long long)i);
        if (pad) st_add(w, name, ST_U8, 1, &pad);
    }
}

static chi_status write_item(void *arg, struct item *it, const void *bytes)
{
    static const unsigned char zeros[64];
    if (xxh3(bytes, (size_t)it->bytes) != it->hash)
        return fail(CHI_EDATA, "%s changed while it was read: try again when nothing writes it", it->t->name);
    TRY(st_write(arg, bytes, it->bytes));
    return st_write(arg, zeros, pad_of(it));
}

static chi_status write_all(struct convert *c, struct st_writer *w)
{
    st_want_seal(w);
    st_put_meta(w, "format", PACKED_FORMAT);
    TRY(put_config(c, w));
    st_put_meta(w, "manifest", c->manifest);
    put_lines(c, w);
    announce(c, w);
    TRY(st_begin(w));
    for (int64_t i = 0; i < c->n; i++) {
        TRY(with_bytes(c, &c->item[i], write_item, w));
        progress_part(&c->progress, "writing weights", i + 1, c->n);
    }
    return CHI_OK;
}

static chi_status write_file(struct convert *c)
{
    struct fs_out o;
    char *tmp = xprintf("%s.tmp", c->out);
    chi_status s = fs_out_open(&o, tmp);
    if (s == CHI_OK) {
        struct st_writer *w = st_create(o.f);
        s = write_all(c, w);
        chi_status end = st_finish(w);
        if (s == CHI_OK) s = end;
        char *why = s == CHI_OK ? NULL : xstrdup(fail_text());
        end = fs_out_close(&o, NULL);                   /* knows the name, if the disk is at fault      */
        if (end == CHI_OK && why) fail(s, "%s", why);
        else s = end;
        free(why);
        if (s == CHI_OK && rename(tmp, c->out) < 0) s = fs_fail("rename to", c->out);
        if (s != CHI_OK) unlink(tmp);
    }
    free(tmp);
    return s;
}

static void close_all(struct convert *c)
{
    if (c->others) fclose(c->others);
    free(c->other_names);
    free(c->refused);
    free(c->item);
    free(c->out);
    free(c->manifest);
    st_close(c->masters);
    model_close(c->plan);
    spec_close(c->spec);
}

chi_status convert(const struct convert_request *r, FILE *report)
{
    struct convert c = { .request = r };
    chi_status s = open_source(&c);
    if (s == CHI_OK) s = list_items(&c);
    progress_begin(&c.progress, 0);
    if (s == CHI_OK) s = decide(&c);
    if (s == CHI_OK) s = write_file(&c);
    progress_end(&c.progress);
    if (s == CHI_OK && !r->quiet) {
        say(&c, report);
        note("%s is written", c.out);
    }
    char *why = s == CHI_OK ? NULL : xstrdup(fail_text());
    close_all(&c);
    if (why) fail(s, "%s", why);
    free(why);
    return s;
}
