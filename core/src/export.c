/* export.c - chimera export: a packed model's numbers into GGUF, or into safetensors as floats; a run's masters
 * into safetensors.
 *
 * A run is packed first, next to the output, so there is one source: a packed model.  Two passes over its tensors,
 * a few million weights at a time in memory: the first finds the type that carries all rows of each exactly, and its
 * hash, which stands in the header; the second writes.  Nothing has the output's name until it is whole.        */
#include "export.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "carry.h"
#include "ckpt.h"
#include "convert.h"
#include "core.h"
#include "export_llama.h"
#include "fs.h"
#include "mapped.h"
#include "progress.h"
#include "sections.h"
#include "signals.h"

struct masters { struct st_file *f; char *config, *manifest; };

struct item {
    const struct packed_tensor *t;
    const struct chi_component *encoding;
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
    int64_t done, weights;              /* of this pass                                                          */
    XXH3_state_t *hash, *scale_hash;    /* of the item that is on its way                                        */
    bool plain;                         /* its floats alone tell integers from scales so far                      */
};
enum { BLOCK = 1 << 22, NO_TYPE = -1 };

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

/* What was packed here; the plugins are those of the run, for a packed model's own word on them counts nothing */
static chi_status open_own(struct export *x)
{
    const struct export_request *q = x->request;
    struct plugin_options o;
    struct config *c;
    char *word[2];
    int n = 0;
    TRY(run_config(q->subject, q->override, q->n_override, &c));
    config_parse(c, "plugins", plugin_table, &o, NULL);
    if (o.path && *o.path) word[n++] = xprintf("plugins.path=%s", o.path);
    if (o.load && *o.load) word[n++] = xprintf("plugins.load=%s", o.load);
    config_free(c);
    chi_status s = run_packed_spec(x->packed, word, n, NULL, SPEC_MODEL, &x->spec);
    while (n > 0) free(word[--n]);
    return s;
}

static chi_status open_source(struct export *x)
{
    const struct export_request *q = x->request;
    if (packed_is(q->subject))
        TRY(run_packed_spec(q->subject, q->override, q->n_override, NULL, SPEC_MODEL, &x->spec));
    else {
        TRY(pack_run(x));
        TRY(open_own(x));
    }
    x->p = x->spec->packed;
    while (packed_at(x->p, x->n)) x->n++;
    x->item = xcalloc((size_t)x->n, sizeof *x->item);
    for (int64_t i = 0; i < x->n; i++) x->item[i].t = packed_at(x->p, i);
    return CHI_OK;
}

/* ---- rows of a tensor ---------------------------------------------------------------------------------- */

static void tell(struct export *x, const char *what, int64_t weights)
{
    x->done += weights;
    if (now_s() - x->progress.begun > 2) progress_part(&x->progress, what, x->done, x->weights);
}

typedef chi_status block_fn(struct export *, const struct item *, const struct weights *, const struct carried *);

/* f for block after block of an item's rows, as type (NO_TYPE: not carried); CHI_ECONF: type does not hold one   */
static chi_status each_block(struct export *x, const struct item *it, int type, block_fn *f, const char *what)
{
    const struct packed_tensor *t = it->t;
    int64_t step = round_up(max_i64(1, BLOCK / t->cols), CHI_TILE * (x->llama ? llama_head(x->spec) : 1));
    for (int64_t r0 = 0; r0 < t->rows; r0 += step) {
        struct weights w;
        struct carried c = { .plain = true };
        TRY(carry_read(&w, t, it->encoding, r0, min_i64(r0 + step, t->rows)));
        chi_status s = type == NO_TYPE ? CHI_OK : carry_out(&c, &w, it->encoding, type, x->spec->registry, t->t->name);
        if (s == CHI_OK && x->llama && type != NO_TYPE) s = llama_order(x->spec, t->t->name, c.data, w.rows, c.bytes);
        if (s == CHI_OK) s = f(x, it, &w, &c);
        if (s == CHI_OK) tell(x, what, w.rows * w.cols);
        weights_drop(&w);
        carried_drop(&c);
        mapped_let_go(t->t->data, t->t->bytes);
        TRY(s);
        TRY(signals_stop());
    }
    return CHI_OK;
}

static chi_status put_data(struct export *x, const void *data, int64_t bytes)
{
    XXH3_64bits_update(x->hash, data, (size_t)bytes);
    return x->g ? gguf_write_part(x->g, data, bytes) : st_write(x->s, data, bytes);
}

/* What was written is what was hashed                                                                            */
static chi_status end_data(struct export *x, uint64_t hash, const char *name)
{
    if (XXH3_64bits_digest(x->hash) != hash)
        return fail(CHI_EDATA, "%s changed while it was read: try again when nothing writes it", name);
    XXH3_64bits_reset(x->hash);
    return x->g ? gguf_end_tensor(x->g) : CHI_OK;
}

/* ---- which types --------------------------------------------------------------------------------------- */

static chi_status weigh_block(struct export *x, const struct item *it, const struct weights *w,
                              const struct carried *c)
{
    (void)it;
    x->plain = x->plain && c->plain;
    XXH3_64bits_update(x->hash, c->data, (size_t)c->bytes);
    XXH3_64bits_update(x->scale_hash, w->scale, (size_t)(w->rows * w->groups) * sizeof *w->scale);
    return CHI_OK;
}

static chi_status decide_matrix(struct export *x, struct item *it)
{
    const struct packed_tensor *t = it->t;
    chi_status s = CHI_ECONF;
    TRY(carry_open(t, x->spec->registry, &it->encoding));
    int64_t before = x->done;
    for (int type = carry_first(x->type, it->encoding); s == CHI_ECONF && type != CARRY_BEST; type = carry_next(type)) {
        XXH3_64bits_reset(x->hash);
        XXH3_64bits_reset(x->scale_hash);
        x->plain = true;
        x->done = before;
        it->type = type;
        s = each_block(x, it, type, weigh_block, "checking weights");
        if (s == CHI_ECONF && type != GGUF_F32) it->why = carry_why(type, t->cols);
    }
    TRY(s);
    it->bytes = gguf_bytes(it->type, t->rows * t->cols);
    it->groups = x->plain || x->llama ? 0 : ceil_div(t->cols, t->group);
    it->hash = XXH3_64bits_digest(x->hash);
    it->scale_hash = XXH3_64bits_digest(x->scale_hash);
    return CHI_OK;
}

static chi_status decide(struct export *x)
{
    for (int64_t i = 0; i < x->n; i++) x->weights += x->item[i].t->rows * x->item[i].t->cols;
    for (int64_t i = 0; i < x->n; i++) {
        struct item *it = &x->item[i];
        if (*it->t->encoding) TRY(decide_matrix(x, it));
        else {
            TRY(packed_check(it->t));
            it->type = GGUF_F32;
            it->bytes = it->t->t->bytes;
            it->hash = it->t->hash;
        }
    }
    XXH3_64bits_reset(x->hash);
    x->done = 0;
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

static chi_status write_block(struct export *x, const struct item *it, const struct weights *w,
                              const struct carried *c)
{
    (void)it;
    (void)w;
    return put_data(x, c->data, c->bytes);
}

static chi_status write_scales(struct export *x, const struct item *it, const struct weights *w,
                               const struct carried *c)
{
    (void)it;
    (void)c;
    return put_data(x, w->scale, w->rows * w->groups * (int64_t)sizeof *w->scale);
}

static chi_status write_item(struct export *x, const struct item *it)
{
    static const char what[] = "writing weights";
    const struct packed_tensor *t = it->t;
    if (*t->encoding) TRY(each_block(x, it, it->type, write_block, what));
    else TRY(put_data(x, t->t->data, it->bytes));
    TRY(end_data(x, it->hash, t->t->name));
    if (!it->groups) return CHI_OK;
    x->done -= t->rows * t->cols;
    TRY(each_block(x, it, NO_TYPE, write_scales, what));
    return end_data(x, it->scale_hash, t->t->name);
}

static chi_status write_all(struct export *x)
{
    TRY(put_header(x));
    for (int64_t i = 0; i < x->n; i++) TRY(write_item(x, &x->item[i]));
    return signals_stop();
}

/* f writes into a file of another name, which gets its own when all is there                                   */
static chi_status with_file(struct export *x, chi_status (*f)(struct export *))
{
    struct fs_out o;
    char *tmp = xprintf("%s.tmp", x->request->out);
    chi_status s = fs_out_open_alone(&o, tmp, x->request->out);
    if (s == CHI_OK) {
        int lock = dup(o.fd);                           /* until the file has its name, or is gone               */
        if (x->gguf) x->g = gguf_create(o.f);
        else {
            x->s = st_create(o.f);
            st_want_seal(x->s);
        }
        s = fs_name_free(x->request->out);              /* another writer may have ended since                   */
        if (s == CHI_OK) s = f(x);
        char *why = s == CHI_OK ? NULL : xstrdup(fail_text());
        chi_status end = x->g ? gguf_finish(x->g) : st_finish(x->s);    /* misses what s kept from it             */
        if (s == CHI_OK && (s = end) != CHI_OK) why = xstrdup(fail_text());
        end = fs_out_close(&o, NULL);                   /* knows the name, if the disk is at fault               */
        if (end == CHI_OK && why) fail(s, "%s", why);
        else s = end;
        free(why);
        if (s == CHI_OK) s = fs_publish(tmp, x->request->out);
        if (s != CHI_OK && fs_is_named(lock, tmp)) unlink(tmp);
        close(lock);
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

static chi_status write_master(struct export *x, const struct st_file *f, const struct st_tensor *t)
{
    const float *values;
    float *own;
    chi_status s = CHI_OK;
    TRY(st_floats(f, t, &values, &own));
    for (int64_t at = 0; s == CHI_OK && at < t->n; at += BLOCK) {
        int64_t n = min_i64(BLOCK, t->n - at);
        s = st_write(x->s, values + at, n * (int64_t)sizeof *values);
        mapped_let_go(values + at, n * (int64_t)sizeof *values);
        tell(x, "writing weights", n);
        if (s == CHI_OK) s = signals_stop();
    }
    mem_free(own);
    return s;
}

/* A line for each, with the hash of its values                                                                  */
static chi_status put_master_lines(struct export *x, const struct st_file *f)
{
    const struct st_tensor *t;
    char *text = NULL;
    size_t length;
    chi_status s = CHI_OK;
    FILE *out = open_memstream(&text, &length);
    for (int64_t i = 0; out && s == CHI_OK && (t = st_at(f, i)); i++) {
        const float *values;
        float *own;
        if ((s = st_floats(f, t, &values, &own)) != CHI_OK) break;
        fprintf(out, "%s xxh3=%016" PRIx64 "\n", t->name, xxh3(values, (size_t)t->n * sizeof *values));
        mapped_let_go(values, t->n * (int64_t)sizeof *values);
        mem_free(own);
        s = signals_stop();
    }
    if (!out || fclose(out) != 0) s = fail(CHI_ENOMEM, "no memory for the list of tensors");
    if (s == CHI_OK) st_put_meta(x->s, "tensors", text);
    free(text);
    return s;
}

static chi_status write_masters(struct export *x)
{
    const struct masters *m = x->masters;
    const struct st_tensor *t;
    st_put_meta(x->s, "format", EXPORT_MASTERS);
    st_put_meta(x->s, "config", m->config);
    st_put_meta(x->s, "manifest", m->manifest);
    TRY(put_master_lines(x, m->f));
    for (int64_t i = 0; (t = st_at(m->f, i)); i++) st_add(x->s, t->name, ST_F32, t->n_dim, t->dim);
    TRY(st_begin(x->s));
    for (int64_t i = 0; (t = st_at(m->f, i)); i++) x->weights += t->n;
    for (int64_t i = 0; (t = st_at(m->f, i)); i++) TRY(write_master(x, m->f, t));
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
    TRY(fs_name_free(q->out));
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
    x->hash = XXH3_createState();
    x->scale_hash = XXH3_createState();
    if (!x->hash || !x->scale_hash) return fail(CHI_ENOMEM, "no memory for hashes");
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
    XXH3_freeState(x.hash);
    XXH3_freeState(x.scale_hash);
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
