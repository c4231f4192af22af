/* convert.c - chimera convert: a packed model from a run, a checkpoint or another packed model.
 *
 * Two passes over the tensors, one at a time in memory: the first finds out what each can become and lists what
 * is refused; the second makes the same numbers again and writes them (packed_write.c).  Nothing is written before
 * all is decided, and files appear under their names when they are whole.                                     */
#include "convert.h"

#include <stdlib.h>
#include <string.h>

#include "ckpt.h"
#include "core.h"
#include "fit.h"
#include "fs.h"
#include "network.h"
#include "progress.h"
#include "signals.h"

struct item {
    const struct model_tensor *t;
    const struct chi_linear *l;         /* NULL: stays F32                                        */
    const struct chi_component *to;     /* encoding                                               */
    bool    nearly;                     /* only with a loss                                       */
    int64_t group, bytes, at;           /* at: which one it is                                    */
    uint64_t values;                    /* XXH3 of the numbers                                    */
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
    if (run_is_checkpoint(r->subject)) return open_masters(c, r->subject);
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
    TRY(mode_refuse(c->spec));
    TRY(packed_names_free(c->out));
    TRY(fs_can_write(c->out));
    TRY(model_open(&c->plan, c->spec, MODEL_PLAN, 1, 1));
    if (!c->spec->packed || c->spec->run.verify == VERIFY_NO) return CHI_OK;
    return model_verify(c->plan, VERIFY_FULL, NULL);  /* all is read anyway               */
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
            return fail(CHI_ECONF,
                        "-e %s: no weights of this model match; their names are such as layers.0.mixer.q_proj and "
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
    return CHI_OK;
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
    return fail(CHI_ECONF,
                "%s: %s weights would change what extra_rmsnorm does to their input: it is for integers only",
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

/* The numbers of a matrix as its new encoding holds them                                                     */
static chi_status fit_item(const struct convert *c, struct item *it, struct weights *out)
{
    const struct chi_encoding_ops *to = it->to->ops;
    struct weights w;
    void *bytes = NULL;
    *out = (struct weights){ .rows = 0 };
    TRY(read_weights(c, it, &w));
    chi_status s = it->nearly ? CHI_ECONF : fit_exact(&w, it->l->encoding->values, it->to, it->l->name, &bytes);
    if (s == CHI_ECONF && c->request->requantize) {
        it->nearly = true;
        s = check_kind(it);
        if (s == CHI_OK)
            s = fit_nearly(&w, &it->l->rule->quantizer, c->spec->registry, it->to, it->l->name, out, &it->error);
        weights_drop(&w);
        if (s == CHI_OK) s = fit_exact(out, to->values, it->to, it->l->name, &bytes);
    } else
        *out = w;
    mem_free(bytes);
    if (s == CHI_OK) it->bytes = to->bytes(out->rows, out->cols, it->group = out->group);
    else weights_drop(out);
    return s;
}

/* f() of the tensor's numbers as they are in the file                                                          */
static chi_status with_numbers(struct convert *c, struct item *it,
                               chi_status (*f)(void *, struct item *, const struct weights *), void *arg)
{
    struct weights w;
    float *own = NULL;
    const float *values;
    if (it->l) {
        TRY(fit_item(c, it, &w));
        chi_status s = f(arg, it, &w);
        weights_drop(&w);
        return s;
    }
    chi_status s = read_floats(c, it, &values, &own);
    it->bytes = it->t->n * (int64_t)sizeof *values;
    w = (struct weights){ .rows = it->t->shape[0], .scale = (float *)(uintptr_t)values };
    if (s == CHI_OK) s = f(arg, it, &w);
    mem_free(own);
    return s;
}

/* ---- the first pass ---------------------------------------------------------------------------------------- */

static chi_status hash_item(void *arg, struct item *it, const struct weights *w)
{
    (void)arg;
    it->values = it->l ? hash_values(it, w) : xxh3(w->scale, (size_t)it->bytes);
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
        chi_status s = with_numbers(c, &c->item[i], hash_item, NULL);
        if (s == CHI_ECONF && c->item[i].l) refuse(c, &c->item[i]);
        else TRY(s);
        progress_part(&c->progress, "checking weights", i + 1, c->n);
        TRY(signals_stop());
    }
    return c->n_refused ? refusal(c) : CHI_OK;
}

static void say(const struct convert *c, FILE *f)
{
    for (int64_t i = 0; i < c->n; i++) {
        const struct item *it = &c->item[i];
        if (!it->l) continue;
        fprintf(f, "%-28s %lld x %lld  %s -> %s  %lld bytes  ", it->l->name, (long long)it->l->d_out,
                (long long)it->l->d_in, it->l->encoding_name, it->to->name, (long long)it->bytes);
        if (it->nearly) fprintf(f, "error %.3e\n", it->error);
        else fputs("exact\n", f);
    }
}

/* ---- the second pass: writing ------------------------------------------------------------------------------- */

char *convert_config_text(const struct spec *spec)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    for (int64_t i = 0; i < spec->n_rule; i++) {
        const char *pattern = spec->rule[i].pattern;
        char *section = i ? xprintf("linear.%s", pattern) : xstrdup("linear");
        config_show(spec->config, section, "encoding", "");
        free(section);
    }
    config_show(spec->config, "run", "verify", "once");      /* the next reader decides for himself           */
    if (f) config_print(spec->config, f, false);
    if (f && fclose(f) == 0) return text;
    free(text);
    return NULL;
}

static chi_status write_item(void *arg, struct item *it, const struct weights *w)
{
    struct packed_writer *to = arg;
    TRY(packed_put(to, it->at, 0, w->rows, w->q, w->scale));
    if (packed_put_hash(to, it->at) == it->values) return CHI_OK;
    return fail(CHI_EDATA, "%s changed while it was read: try again when nothing writes it", it->t->name);
}

static chi_status write_items(struct convert *c, struct packed_writer *w)
{
    for (int64_t i = 0; i < c->n; i++) {
        TRY(with_numbers(c, &c->item[i], write_item, w));
        progress_part(&c->progress, "writing weights", i + 1, c->n);
        TRY(signals_stop());
    }
    return CHI_OK;
}

static chi_status write_file(struct convert *c)
{
    struct packed_writer *w;
    struct packed_entry *entry = xcalloc((size_t)c->n, sizeof *entry);
    for (int64_t i = 0; i < c->n; i++) {
        struct item *it = &c->item[i];
        it->at = i;
        entry[i] = (struct packed_entry){ .name = it->t->name, .encoding = it->l ? it->to : NULL,
                                          .group = it->group };
        memcpy(entry[i].shape, it->t->shape, sizeof entry[i].shape);
    }
    char *text = convert_config_text(c->spec);
    chi_status s = text ? packed_create(&w, c->out, text, c->manifest, entry, c->n)
                 : fail(CHI_ENOMEM, "no memory for the text of a configuration");
    if (s == CHI_OK) {
        s = write_items(c, w);
        if (s == CHI_OK) s = packed_finish(w);
        else packed_abandon(w);
    }
    free(text);
    free(entry);
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
