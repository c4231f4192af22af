/* init.c - see init.h.
 *
 * A start value is a function of seed, tensor and place (rng.h), and quantizers work row by row.  So
 * blocks of rows can be drawn, quantised and encoded one after the other: memory holds one block,
 * whatever the model's size is.  The writer (packed.h) does the rest.                               */
#include "init.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ckpt.h"
#include "convert.h"
#include "core.h"
#include "fs.h"
#include "network.h"
#include "packed.h"
#include "pool.h"
#include "progress.h"
#include "signals.h"

enum { BLOCK = 4 << 20 };                   /* values of a block of rows                        */

struct fresh {
    struct spec  *spec;
    struct model *plan;
    char *folder, *path, *config, *manifest;
    bool  made;                             /* the folder is ours                                */
    const struct planned_param **param;     /* [n]                                               */
    struct packed_entry *entry; int64_t n;
    int8_t *q;                              /* of a block                                        */
    float  *scale;                          /* scales, or the values themselves                  */
    struct packed_writer *writer;
    struct progress progress;
    int64_t done, all;                      /* values                                            */
};

/* ---- what there is ----------------------------------------------------------------------------- */

static bool encoded(const struct planned_param *p)
{
    return p->linear && !p->linear->f32_only;
}

static void list_tensors(struct fresh *f)
{
    const struct model *m = f->plan;
    f->param = xcalloc((size_t)m->n_tensor, sizeof *f->param);
    f->entry = xcalloc((size_t)m->n_tensor, sizeof *f->entry);
    for (int64_t i = 0; i < m->n_all; i++)
        for (int64_t j = 0; j < m->all[i]->n_param; j++, f->n++) {
            const struct planned_param *p = f->param[f->n] = &m->all[i]->param[j];
            struct packed_entry *e = &f->entry[f->n];
            *e = (struct packed_entry){ .name = m->tensor[f->n].name };
            memcpy(e->shape, p->shape, sizeof e->shape);
            if (encoded(p)) {
                e->encoding = p->linear->rule->encoding;
                e->group = p->linear->group;
            }
            f->all += p->n;
        }
}

static int64_t row_values(const struct planned_param *p)
{
    return p->n / p->shape[0];
}

static int64_t block_rows(const struct planned_param *p)
{
    return max_i64(CHI_TILE, BLOCK / row_values(p) / CHI_TILE * CHI_TILE);
}

/* Room for the largest block, and for a tile of masters in every task                              */
static chi_status take_room(struct fresh *f)
{
    int64_t q = 1, scale = 1, tile = 0;
    for (int64_t i = 0; i < f->n; i++) {
        const struct planned_param *p = f->param[i];
        int64_t cols = row_values(p), rows = min_i64(block_rows(p), p->shape[0]);
        bool integer = encoded(p) && linear_integer(p->linear);
        if (integer) q = max_i64(q, rows * cols);
        scale = max_i64(scale, rows * (integer ? ceil_div(cols, p->linear->group) : cols));
        tile = max_i64(tile, CHI_TILE * cols);
    }
    TRY(pool_scratch(tile * (int64_t)sizeof(float) + 64));
    f->q = mem_take((size_t)q, "a block of weights");
    f->scale = mem_take((size_t)scale * sizeof *f->scale, "a block of weights");
    return f->q && f->scale ? CHI_OK : CHI_ENOMEM;
}

/* ---- rows ---------------------------------------------------------------------------------------- */

struct rows { struct fresh *f; int64_t tensor, r0, r1; atomic_int not_finite, not_held; };

static void quantize_tile(struct rows *a, const struct planned_param *p, const float *w, int64_t r0, int64_t r1)
{
    const struct chi_linear *l = p->linear;
    int64_t from = r0 - a->r0, groups = ceil_div(l->d_in, l->group);
    int8_t *q = linear_integer(l) ? a->f->q + from * l->d_in : NULL;
    float *scale = a->f->scale + from * groups;
    if (l->quantizer->quantize(l->rule->quantizer.conf, w, r1 - r0, l->d_in, q, scale))
        atomic_store(&a->not_finite, 1);
    else if (CHI_HAS(struct chi_encoding_ops, l->encoding, holds)
             && !l->encoding->holds(q, scale, r1 - r0, l->d_in, l->group))
        atomic_store(&a->not_held, 1);
}

static void tile_task(void *arg, int64_t i, struct chi_scratch *s)
{
    struct rows *a = arg;
    const struct planned_param *p = a->f->param[a->tensor];
    const struct spec *spec = a->f->spec;
    int64_t cols = row_values(p), r0 = a->r0 + i * CHI_TILE, r1 = min_i64(r0 + CHI_TILE, a->r1);
    float *w = encoded(p) ? chi_take(s, (size_t)(CHI_TILE * cols) * sizeof *w) : a->f->scale + (r0 - a->r0) * cols;
    init_some(w, p, a->f->entry[a->tensor].name, (uint64_t)spec->run.seed, spec->model.initializer_range, r0 * cols,
              r1 * cols);
    if (encoded(p)) quantize_tile(a, p, w, r0, r1);
}

static chi_status write_rows(struct fresh *f, int64_t t, int64_t r0, int64_t r1)
{
    const struct planned_param *p = f->param[t];
    struct rows a = { .f = f, .tensor = t, .r0 = r0, .r1 = r1 };
    pool_run(ceil_div(r1 - r0, CHI_TILE), tile_task, &a);
    if (atomic_load(&a.not_finite)) return fail(CHI_ENUMERIC, "%s: a weight is not finite", f->entry[t].name);
    if (atomic_load(&a.not_held))
        return fail(CHI_ECONF,
                    "%s: encoding %s holds only a part of the %s weights, and not these: choose another [linear] "
                    "encoding (chimera plugins lists them)", p->linear->name, p->linear->encoding_name,
                    p->linear->encoding->values);
    TRY(packed_put(f->writer, t, r0, r1, encoded(p) && linear_integer(p->linear) ? f->q : NULL, f->scale));
    f->done += (r1 - r0) * row_values(p);
    progress_part(&f->progress, "writing start weights", f->done, f->all);
    return signals_stop();
}

static chi_status write_all(struct fresh *f)
{
    for (int64_t t = 0; t < f->n; t++) {
        int64_t rows = f->param[t]->shape[0], some = block_rows(f->param[t]);
        for (int64_t r = 0; r < rows; r += some) TRY(write_rows(f, t, r, min_i64(r + some, rows)));
    }
    return CHI_OK;
}

/* ---- where to -------------------------------------------------------------------------------------- */

/* conf/x.ini -> x                                                                                     */
static char *folder_of(const char *subject)
{
    const char *slash = strrchr(subject, '/'), *base = slash ? slash + 1 : subject, *dot = strrchr(base, '.');
    return xprintf("%.*s", dot && dot > base ? (int)(dot - base) : (int)strlen(base), base);
}

static chi_status choose_folder(struct fresh *f, const struct init_request *r)
{
    f->folder = r->out ? xstrdup(r->out) : folder_of(r->subject);
    if (!*f->folder) return fail(CHI_ECONF, "-o '': must be a folder's name");
    if (run_is_folder(f->folder))
        return fail(CHI_ECONF, "%s is the folder of a run: give another name with -o", f->folder);
    if (fs_exists(f->folder) && !fs_is_dir(f->folder))
        return fail(CHI_ECONF, "%s is a file: give the name of a folder with -o", f->folder);
    f->path = fs_join(f->folder, "model.b158");
    return packed_names_free(f->path);
}

/* That of a checkpoint before the first step                                                           */
static chi_status describe(struct fresh *f)
{
    cJSON *j = manifest_new(f->spec, &(struct ckpt_meta){ 0 });
    char *text = cJSON_PrintUnformatted(j);
    if (text) f->manifest = xstrdup(text);
    cJSON_free(text);
    cJSON_Delete(j);
    f->config = convert_config_text(f->spec);
    return f->manifest && f->config ? CHI_OK : fail(CHI_ENOMEM, "no memory for the texts of a packed model");
}

static chi_status open_all(struct fresh *f, const struct init_request *r)
{
    struct config *c;
    if (packed_is(r->subject))
        return fail(CHI_ECONF, "%s is a packed model; wanted is a configuration (FILE.ini)", r->subject);
    TRY(run_config(r->subject, r->override, r->n_override, &c));
    TRY(spec_open(&f->spec, c, SPEC_MODEL | SPEC_TRAIN | SPEC_TOKENIZER));
    TRY(mode_refuse(f->spec));
    TRY(model_open(&f->plan, f->spec, MODEL_PLAN, 1, 1));
    list_tensors(f);
    TRY(take_room(f));
    return describe(f);
}

static chi_status write_model(struct fresh *f)
{
    f->made = !fs_exists(f->folder);
    TRY(fs_mkdirs(f->folder));
    progress_begin(&f->progress, 0);
    chi_status s = packed_create(&f->writer, f->path, f->config, f->manifest, f->entry, f->n);
    if (s == CHI_OK) s = write_all(f);
    progress_end(&f->progress);
    TRY(s);
    s = packed_finish(f->writer);
    f->writer = NULL;
    return s;
}

static void say(const struct fresh *f)
{
    char count[32], size[32], peak[32];
    struct rusage used = { .ru_maxrss = 0 };
    int64_t bytes = 0;
    for (int64_t t = 0; t < f->n; t++)
        bytes += encoded(f->param[t]) ? f->param[t]->linear->n_bytes : 4 * f->param[t]->n;
    human_count(count, f->all);
    human_bytes(size, bytes);
    getrusage(RUSAGE_SELF, &used);
    human_bytes(peak, (int64_t)used.ru_maxrss << 10);           /* which Linux counts in kB               */
    note("%s is written: %s start weights in %s, by way of at most %s of memory", f->folder, count, size, peak);
}

static void close_all(struct fresh *f)
{
    packed_abandon(f->writer);
    mem_free(f->q);
    mem_free(f->scale);
    free(f->entry);
    free(f->param);
    free(f->config);
    free(f->manifest);
    free(f->path);
    free(f->folder);
    model_close(f->plan);
    spec_close(f->spec);
}

chi_status init_model(const struct init_request *r, int *signal)
{
    struct fresh f = { 0 };
    chi_status s = open_all(&f, r);
    if (s == CHI_OK) s = choose_folder(&f, r);
    signals_catch();
    if (s == CHI_OK) s = write_model(&f);
    *signal = signals_pending();
    signals_release();
    if (s == CHI_OK) say(&f);
    char *why = s == CHI_OK ? NULL : xstrdup(fail_text());
    packed_abandon(f.writer);
    f.writer = NULL;
    if (s != CHI_OK && f.made) rmdir(f.folder);
    close_all(&f);
    if (why) fail(s, "%s", why);
    free(why);
    return s;
}
