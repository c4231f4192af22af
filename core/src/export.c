/* export.c - chimera export: a packed model's numbers into GGUF, or into safetensors as floats; a run's masters
 * into safetensors.
 *
 * A run is packed first, next to the output, so there is one source: a packed model.  Two passes over its tensors,
 * one at a time in memory: the first finds the type that carries each exactly, and its hash, which stands in the
 * header; the second writes.  Nothing has the output's name until it is whole.                                  */
#include "export.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "carry.h"
#include "ckpt.h"
#include "convert.h"
#include "core.h"
#include "export_llama.h"
#include "fs.h"
#include "progress.h"
#include "signals.h"

struct masters { struct st_file *f; char *config, *manifest; };

struct item {
    const struct packed_tensor *t;
    int      type;                      /* of gguf.h                                                            */
    int64_t  bytes, groups;             /* groups: of the scales that travel, or 0                               */
    uint64_t hash, scale_hash;
    const char *why;
};

struct export {
    const struct export_request *request;
    bool gguf, llama;
    int  type;                          /* that is wanted of matrices                                            */
    char *packed;                       /* made for this export, or NULL                                         */
    struct spec *spec;
    const struct packed *p;             /* the spec's                                                            */
    struct item *item; int64_t n;
    const struct masters *masters;      /* instead of items                                                      */
    struct gguf_writer *g;              /* the output: this                                                      */
    struct st_writer *s;                /* or that                                                               */
    struct progress progress;
};

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && !strcmp(text + n - m, end);
}

/* ---- where from ------------------------------------------------------------------------------------------ */

/* A run or a checkpoint, packed beside the output                                                              */
static chi_status pack_run(struct export *x)
{
    const struct export_request *q = x->request;
    x->packed = xprintf("%s.tmp.b158", q->out);
    struct convert_request r = { .subject = q->subject, .override = q->override, .n_override = q->n_override,
                                 .out = x->packed, .quiet = true };
    return convert(&r, NULL);
}

static chi_status open_source(struct export *x)
{
    const struct export_request *q = x->request;
    bool packed = packed_is(q->subject);
    if (!packed) TRY(pack_run(x));
    TRY(run_packed_spec(packed ? q->subject : x->packed, q->override, packed ? q->n_override : 0, NULL,
                        SPEC_MODEL, &x->spec));
    x->p = x->spec->packed;
    while (packed_at(x->p, x->n)) x->n++;
    x->item = xcalloc((size_t)x->n, sizeof *x->item);
    for (int64_t i = 0; i < x->n; i++) x->item[i].t = packed_at(x->p, i);
    return CHI_OK;
}

/* ---- one tensor ---------------------------------------------------------------------------------------------- */

static chi_status carry_item(struct export *x, struct item *it, struct carried *c)
{
    const struct packed_tensor *t = it->t;
    const struct chi_component *encoding;
    struct weights w;
    if (!*t->encoding) {
        *c = (struct carried){ .type = GGUF_F32, .data = t->t->data, .bytes = t->t->bytes };
        return packed_check(t);
    }
    TRY(carry_read(&w, x->p, t, x->spec->registry, &encoding));
    chi_status s = carry_out(c, &w, encoding, x->type, x->spec->registry, t->t->name);
    weights_drop(&w);
    if (!x->llama || s != CHI_OK) return s;
    c->groups = 0;                      /* values are all that others read                                      */
    s = llama_order(x->spec, t->t->name, c->own, t->rows, c->bytes);
    if (s != CHI_OK) carried_drop(c);
    return s;
}

static chi_status decide(struct export *x)
{
    for (int64_t i = 0; i < x->n; i++) {
        struct item *it = &x->item[i];
        struct carried c;
        TRY(carry_item(x, it, &c));
        it->type = c.type;
        it->bytes = c.bytes;
        it->why = c.why;
        it->groups = c.groups;
        it->hash = xxh3(c.data, (size_t)c.bytes);
        if (c.groups) it->scale_hash = xxh3(c.scale, (size_t)c.n_scale * sizeof *c.scale);
        carried_drop(&c);
        progress_part(&x->progress, "checking weights", i + 1, x->n);
    }
    return CHI_OK;
}

/* ---- the header ---------------------------------------------------------------------------------------- */

static void put_text(struct export *x, const char *key, const char *text)
{
    char *full = xprintf("chimera.%s", key);
    if (x->g) gguf_put_text(x->g, full, text);
    else st_put_meta(x->s, key, text);
    free(full);
}

static void add(struct export *x, const char *name, int type, int n_dim, const int64_t *dim)
{
    char *there = x->llama ? llama_name(name) : NULL;
    if (x->g) gguf_add(x->g, there ? there : name, type, n_dim, dim);
    else st_add(x->s, name, ST_F32, n_dim, dim);
    free(there);
}

static chi_status put_lines(struct export *x)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    for (int64_t i = 0; f && i < x->n; i++) {
        const struct item *it = &x->item[i];
        const struct packed_tensor *t = it->t;
        fputs(t->t->name, f);
        if (*t->encoding)
            fprintf(f, " encoding=%s shape=%lldx%lld group=%lld", t->encoding, (long long)t->rows, (long long)t->cols,
                    (long long)t->group);
        fprintf(f, " xxh3=%016" PRIx64 "\n", it->hash);
        if (it->groups) fprintf(f, "%s.scale xxh3=%016" PRIx64 "\n", t->t->name, it->scale_hash);
    }
    bool ok = f && fclose(f) == 0;
    if (ok) put_text(x, "tensors", text);
    free(text);
    return ok ? CHI_OK : fail(CHI_ENOMEM, "no memory for the list of tensors");
}

/* The type of the largest share of the bytes, as llama.cpp numbers it: informative                              */
static uint32_t file_type(const struct export *x)
{
    static const struct { int type; uint32_t number; } all[] = {
        { GGUF_F32, 0 }, { GGUF_F16, 1 }, { GGUF_TQ1_0, 36 }, { GGUF_TQ2_0, 37 },
    };
    int64_t most = -1;
    uint32_t number = 0;
    for (int k = 0; k < COUNT(all); k++) {
        int64_t sum = 0;
        for (int64_t i = 0; i < x->n; i++)
            if (x->item[i].type == all[k].type) sum += x->item[i].t->rows * x->item[i].t->cols;
        if (sum > most) most = sum, number = all[k].number;
    }
    return number;
}

/* What readers of GGUF look for                                                                                 */
static void put_general(struct export *x)
{
    static const char *const key[][2] = {
        { "num_hidden_layers", "chimera.block_count" }, { "hidden_size", "chimera.embedding_length" },
        { "vocab_size", "chimera.vocab_size" },
    };
    const char *slash = strrchr(x->request->out, '/');
    gguf_put_text(x->g, "general.architecture", x->llama ? "llama" : "chimera");
    gguf_put_text(x->g, "general.name", slash ? slash + 1 : x->request->out);
    gguf_put_u32(x->g, "general.quantization_version", 2);
    gguf_put_u32(x->g, "general.file_type", file_type(x));
    if (x->llama) llama_keys(x->g, x->spec);
    for (int i = 0; !x->llama && i < COUNT(key); i++) {
        const char *v = config_get(x->spec->config, "model", key[i][0]);
        if (v) gguf_put_u32(x->g, key[i][1], (uint32_t)strtoul(v, NULL, 10));
    }
}

static chi_status put_own(struct export *x)
{
    put_text(x, "format", x->g ? EXPORT_GGUF : EXPORT_FLOATS);
    put_text(x, "config", packed_config(x->p));
    put_text(x, "manifest", packed_manifest(x->p));
    return put_lines(x);
}

static chi_status put_header(struct export *x)
{
    if (x->g) put_general(x);
    if (!x->llama) TRY(put_own(x));
    for (int64_t i = 0; i < x->n; i++) {
        const struct item *it = &x->item[i];
        const struct packed_tensor *t = it->t;
        if (!*t->encoding) {
            add(x, t->t->name, it->type, t->t->n_dim, t->t->dim);
            continue;
        }
        add(x, t->t->name, it->type, 2, (int64_t[]){ t->rows, t->cols });
        if (!it->groups) continue;
        char *name = xprintf("%s.scale", t->t->name);
        add(x, name, GGUF_F32, 2, (int64_t[]){ t->rows, it->groups });
        free(name);
    }
    return x->g ? gguf_begin(x->g) : st_begin(x->s);
}

/* ---- the data ------------------------------------------------------------------------------------------ */

static chi_status put_data(struct export *x, const void *data, int64_t bytes, uint64_t hash, const char *name)
{
    if (xxh3(data, (size_t)bytes) != hash)
        return fail(CHI_EDATA, "%s changed while it was read: try again when nothing writes it", name);
    return x->g ? gguf_write(x->g, data, bytes) : st_write(x->s, data, bytes);
}

static chi_status write_all(struct export *x)
{
    TRY(put_header(x));
    for (int64_t i = 0; i < x->n; i++) {
        struct item *it = &x->item[i];
        struct carried c;
        TRY(carry_item(x, it, &c));
        chi_status s = put_data(x, c.data, it->bytes, it->hash, it->t->t->name);
        if (s == CHI_OK && c.groups)
            s = put_data(x, c.scale, c.n_scale * (int64_t)sizeof *c.scale, it->scale_hash, it->t->t->name);
        carried_drop(&c);
        TRY(s);
        progress_part(&x->progress, "writing weights", i + 1, x->n);
        TRY(signals_stop());
    }
    return CHI_OK;
}

/* f writes into a file of another name, which gets its own when all is there                                   */
static chi_status with_file(struct export *x, chi_status (*f)(struct export *))
{
    struct fs_out o;
    char *tmp = xprintf("%s.tmp", x->request->out);
    chi_status s = fs_out_open(&o, tmp);
    if (s == CHI_OK) {
        if (x->gguf) x->g = gguf_create(o.f);
        else {
            x->s = st_create(o.f);
            st_want_seal(x->s);
        }
        s = f(x);
        char *why = s == CHI_OK ? NULL : xstrdup(fail_text());
        chi_status end = x->g ? gguf_finish(x->g) : st_finish(x->s);    /* misses what s kept from it             */
        if (s == CHI_OK && (s = end) != CHI_OK) why = xstrdup(fail_text());
        end = fs_out_close(&o, NULL);                   /* knows the name, if the disk is at fault               */
        if (end == CHI_OK && why) fail(s, "%s", why);
        else s = end;
        free(why);
        if (s == CHI_OK) s = fs_publish(tmp, x->request->out);
        if (s != CHI_OK) unlink(tmp);
    }
    free(tmp);
    return s;
}

static void say(const struct export *x, FILE *f)
{
    for (int64_t i = 0; i < x->n; i++) {
        const struct item *it = &x->item[i];
        const struct packed_tensor *t = it->t;
        if (!*t->encoding) continue;
        fprintf(f, "%-28s %lld x %lld  %s -> %s  %lld bytes  exact%s%s%s%s\n", t->t->name, (long long)t->rows,
                (long long)t->cols, t->encoding, gguf_type_name(it->type), (long long)it->bytes,
                it->groups ? ", scales beside it" : "", it->why ? " (" : "", it->why ? it->why : "",
                it->why ? ")" : "");
    }
}

/* "path is written: 6 matrices as TQ2_0, 1 as F16"                                                              */
static void say_written(const struct export *x)
{
    static const int types[] = { GGUF_TQ2_0, GGUF_TQ1_0, GGUF_F16, GGUF_F32 };
    char *text = xprintf("%s is written", x->request->out);
    int said = 0;
    for (int k = 0; k < COUNT(types); k++) {
        int64_t n = 0;
        for (int64_t i = 0; i < x->n; i++) n += *x->item[i].t->encoding && x->item[i].type == types[k];
        if (!n) continue;
        const char *unit = said ? "" : n == 1 ? "matrix " : "matrices ";
        char *more = xprintf("%s%s%lld %sas %s", text, said++ ? ", " : ": ", (long long)n, unit,
                             gguf_type_name(types[k]));
        free(text);
        text = more;
    }
    note("%s", text);
    free(text);
}

/* ---- masters ------------------------------------------------------------------------------------------- */

static chi_status read_masters(struct masters *m, const char *folder)
{
    unsigned char *text;
    int64_t n;
    cJSON *j;
    TRY(ckpt_verify(folder));
    TRY(manifest_read(folder, &j));
    cJSON_DeleteItemFromObjectCaseSensitive(j, "files");
    cJSON_DeleteItemFromObjectCaseSensitive(j, "xxh3");
    char *flat = cJSON_PrintUnformatted(j);
    cJSON_Delete(j);
    if (!flat) return fail(CHI_ENOMEM, "no memory for the manifest of %s", folder);
    m->manifest = xstrdup(flat);
    cJSON_free(flat);
    char *path = fs_join(folder, "config.ini"), *model = fs_join(folder, "model.safetensors");
    chi_status s = fs_read(path, &text, &n);
    if (s == CHI_OK) {
        m->config = xstrdup((const char *)text);
        mem_free(text);
        s = st_open(&m->f, model);
    }
    free(path);
    free(model);
    return s;
}

static chi_status write_masters(struct export *x)
{
    const struct masters *m = x->masters;
    const struct st_tensor *t;
    st_put_meta(x->s, "format", EXPORT_MASTERS);
    st_put_meta(x->s, "config", m->config);
    st_put_meta(x->s, "manifest", m->manifest);
    for (int64_t i = 0; (t = st_at(m->f, i)); i++) st_add(x->s, t->name, ST_F32, t->n_dim, t->dim);
    TRY(st_begin(x->s));
    for (int64_t i = 0; (t = st_at(m->f, i)); i++) {
        const float *values;
        float *own;
        TRY(st_floats(m->f, t, &values, &own));
        chi_status s = st_write(x->s, values, t->n * (int64_t)sizeof *values);
        mem_free(own);
        TRY(s);
        TRY(signals_stop());
    }
    return CHI_OK;
}

/* The checkpoint of a run, or the one that is named; caller frees                                                 */
static chi_status find_checkpoint(const struct export_request *q, char **folder)
{
    *folder = NULL;
    if (run_is_checkpoint(q->subject)) {
        *folder = xstrdup(q->subject);
        return CHI_OK;
    }
    if (fs_is_dir(q->subject)) TRY(ckpt_latest(q->subject, folder));
    else {
        struct config *c;
        TRY(run_config(q->subject, q->override, q->n_override, &c));
        const char *dir = config_get(c, "run", "dir");
        chi_status s = dir ? ckpt_latest(dir, folder) : CHI_OK;
        config_free(c);
        TRY(s);
    }
    return *folder ? CHI_OK : fail(CHI_EDATA, "%s has no checkpoint yet: train first (chimera train)", q->subject);
}

static chi_status export_masters(struct export *x)
{
    struct masters m = { .f = NULL };
    char *folder;
    TRY(find_checkpoint(x->request, &folder));
    chi_status s = read_masters(&m, folder);
    x->masters = &m;
    if (s == CHI_OK) s = with_file(x, write_masters);
    st_close(m.f);
    free(m.config);
    free(m.manifest);
    free(folder);
    return s;
}

/* ---- all of it ----------------------------------------------------------------------------------------- */

static chi_status wanted(struct export *x)
{
    static const struct { const char *name; int type; } all[] = {
        { "tq1_0", GGUF_TQ1_0 }, { "tq2_0", GGUF_TQ2_0 }, { "f16", GGUF_F16 }, { "f32", GGUF_F32 },
    };
    const struct export_request *q = x->request;
    x->gguf = ends_in(q->out, ".gguf");
    if (!x->gguf && !ends_in(q->out, ".safetensors"))
        return fail(CHI_ECONF, "%s: the name tells the format: wanted is NAME.gguf or NAME.safetensors", q->out);
    if (fs_exists(q->out))
        return fail(CHI_ECONF, "%s is there already: remove it, or give another name with -o", q->out);
    TRY(fs_can_write(q->out));
    if (!x->gguf && q->as) return fail(CHI_ECONF, "--as %s: types are for GGUF, safetensors gets floats", q->as);
    if (q->architecture && (!x->gguf || strcmp(q->architecture, "llama") != 0))
        return fail(CHI_ECONF, "--architecture %s: wanted is llama, and -o NAME.gguf", q->architecture);
    x->llama = q->architecture != NULL;
    x->type = x->gguf ? CARRY_BEST : GGUF_F32;
    if (!q->as) return CHI_OK;
    for (int i = 0; i < COUNT(all); i++)
        if (!strcmp(q->as, all[i].name)) {
            x->type = all[i].type;
            return CHI_OK;
        }
    return fail(CHI_ECONF, "--as %s: wanted is tq1_0, tq2_0, f16 or f32", q->as);
}

static chi_status run(struct export *x, FILE *report)
{
    TRY(wanted(x));
    if (!x->gguf && !x->request->dequantised && !packed_is(x->request->subject)) return export_masters(x);
    TRY(open_source(x));
    if (x->llama) TRY(llama_fits(x->spec));
    TRY(decide(x));
    TRY(with_file(x, write_all));
    say(x, report);
    return CHI_OK;
}

chi_status export_model(const struct export_request *q, FILE *report)
{
    struct export x = { .request = q };
    progress_begin(&x.progress, 0);
    chi_status s = run(&x, report);
    progress_end(&x.progress);
    if (s == CHI_OK) say_written(&x);
    char *why = s == CHI_OK ? NULL : xstrdup(fail_text());
    spec_close(x.spec);
    if (x.packed) {
        char *experts = packed_experts_path(x.packed);
        unlink(x.packed);
        unlink(experts);
        free(experts);
    }
    free(x.packed);
    free(x.item);
    if (why) fail(s, "%s", why);
    free(why);
    return s;
}
