/* train_trace.c - chimera train --trace DIR: what an outside implementation needs to take
 * the first steps of a run again (train.trace_steps of them):
 *
 *   config.ini            the resolved configuration
 *   initial.safetensors   weights before the first step, final.safetensors after the last
 *   batches.safetensors   tokens (-1: not computed, behind a sequence's last example),
 *                         targets (-1: not scored), fresh (1: a segment starts), each [steps, batch_size, seq_len]
 * i32; of a looped model depth
 *                         and graded [steps, batch_size], turns of each sequence and how
 *                         many of the last are differentiated
 *   trace.jsonl           a line a step: step, loss, lr, grad_norm (before clipping), clip
 *
 * Batches are kept in memory and written with the last step, or when the run ends before. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "fs.h"
#include "safetensors.h"
#include "trainer.h"

enum { TOKENS, TARGETS, FRESH, DEPTH, GRADED, ARRAYS };
static const char *const array_name[ARRAYS] = { "tokens", "targets", "fresh", "depth", "graded" };

struct trace {
    char    *dir;
    int64_t  steps, n;                  /* to record; whose line is written           */
    int64_t  n_seq, seq_len;
    int32_t *value[ARRAYS];             /* [steps, n_seq, seq_len], or [steps, n_seq] */
    struct fs_out lines;
    bool     open, looped;
};

static int64_t values_a_step(const struct trace *t, int which)
{
    return which < DEPTH ? t->n_seq * t->seq_len : t->n_seq;
}

/* ---- files -------------------------------------------------------------------------- */

static chi_status out_begin(const struct trace *t, const char *name, struct fs_out *o)
{
    char *path = fs_join(t->dir, name);
    chi_status s = fs_out_open(o, path);
    free(path);
    return s;
}

static chi_status put_weights(FILE *f, const struct model *m)
{
    const struct model_tensor *w;
    struct st_writer *st = st_create(f);
    for (int64_t i = 0; (w = model_tensor(m, i)); i++) {
        int dims = 0;
        while (dims < 4 && w->shape[dims]) dims++;
        st_add(st, w->name, ST_F32, dims, w->shape);
    }
    chi_status s = st_begin(st);
    for (int64_t i = 0; s == CHI_OK && (w = model_tensor(m, i)); i++) s = st_write(st, w->w, w->n * 4);
    chi_status end = st_finish(st);
    return s != CHI_OK ? s : end;
}

static chi_status put_batches(FILE *f, const struct trace *t)
{
    struct st_writer *st = st_create(f);
    int arrays = t->looped ? ARRAYS : DEPTH;
    for (int a = 0; a < arrays; a++)
        st_add(st, array_name[a], ST_I32, a < DEPTH ? 3 : 2, (int64_t[]){ t->n, t->n_seq, t->seq_len });
    chi_status s = st_begin(st);
    for (int a = 0; s == CHI_OK && a < arrays; a++) s = st_write(st, t->value[a], t->n * values_a_step(t, a) * 4);
    chi_status end = st_finish(st);
    return s != CHI_OK ? s : end;
}

enum { WEIGHTS, BATCHES, CONFIG };

static chi_status save(const struct trainer *t, const char *name, int what)
{
    struct fs_out o;
    chi_status s = CHI_OK;
    TRY(out_begin(t->trace, name, &o));
    if (what == WEIGHTS) s = put_weights(o.f, t->model);
    else if (what == BATCHES) s = put_batches(o.f, t->trace);
    else config_print(t->spec->config, o.f, false);
    chi_status end = fs_out_close(&o, NULL);
    return end != CHI_OK ? end : s;
}

/* ---- a trace's life -------------------------------------------------------------------- */

chi_status trace_check(const struct trainer *t, const char *dir, const char *checkpoint)
{
    if (checkpoint)
        return fail(CHI_ECONF,
                    "--trace records a run from its first step, but this one would go on from %s: begin anew "
                    "with --fresh", checkpoint);
    if (t->spec->train.nonfinite == NONFINITE_ROLLBACK)
        return fail(CHI_ECONF, "--trace records steps in order, which a rollback takes twice: set train.nonfinite to stop or skip");
    if (fs_exists(dir))
        return fail(CHI_ECONF, "--trace %s: it is there already; name a folder that is not, or remove it", dir);
    return fs_mkdirs(dir);
}

chi_status trace_open(struct trainer *t, const char *dir)
{
    const struct train_options *o = &t->spec->train;
    struct trace *r = t->trace = xcalloc(1, sizeof *r);
    *r = (struct trace){ .dir = xstrdup(dir), .steps = min_i64(o->trace_steps, o->steps), .n_seq = o->batch_size,
                         .seq_len = o->seq_len, .looped = t->spec->loop.length > 0 };
    for (int a = 0; a < ARRAYS; a++) {
        r->value[a] = mem_take((size_t)(r->steps * values_a_step(r, a)) * sizeof(int32_t), "batches of a trace");
        if (!r->value[a]) return CHI_ENOMEM;
    }
    TRY(save(t, "config.ini", CONFIG));
    TRY(save(t, "initial.safetensors", WEIGHTS));
    TRY(out_begin(r, "trace.jsonl", &r->lines));
    r->open = true;
    return CHI_OK;
}

void trace_batch(struct trainer *t, const struct batch *b)
{
    struct trace *r = t->trace;
    if (!r || !r->open) return;
    int64_t all = b->n_seq * b->seq_len;
    int32_t *fresh = r->value[FRESH] + r->n * all;
    memcpy(r->value[TOKENS] + r->n * all, b->token, (size_t)all * sizeof(int32_t));
    memcpy(r->value[TARGETS] + r->n * all, b->target, (size_t)all * sizeof(int32_t));
    memset(fresh, 0, (size_t)all * sizeof *fresh);
    for (int64_t s = 0; s < b->n_seg; s++) fresh[b->seg[s].tokens - b->token] = 1;
    for (int64_t s = 0; s < b->n_seq; s++) {
        struct chi_depth d = b->seg[b->first_seg[s]].depth;
        r->value[DEPTH][r->n * b->n_seq + s] = d.turns;
        r->value[GRADED][r->n * b->n_seq + s] = d.graded;
    }
}

static void put_number(FILE *f, const char *name, double x)
{
    if (isfinite(x)) fprintf(f, ",\"%s\":%.17g", name, x);
    else fprintf(f, ",\"%s\":null", name);
}

static chi_status finish(struct trainer *t)
{
    struct trace *r = t->trace;
    r->open = false;
    TRY(fs_out_close(&r->lines, NULL));
    TRY(save(t, "batches.safetensors", BATCHES));
    TRY(save(t, "final.safetensors", WEIGHTS));
    return fs_sync_dir(r->dir);
}

chi_status trace_step(struct trainer *t, const struct step_result *s)
{
    struct trace *r = t->trace;
    if (!r || !r->open) return CHI_OK;
    FILE *f = r->lines.f;
    fprintf(f, "{\"step\":%lld", (long long)t->step);
    put_number(f, "loss", s->loss);
    put_number(f, "lr", s->lr);
    put_number(f, "grad_norm", s->norm);
    put_number(f, "clip", s->clip);
    fprintf(f, "%s}\n", s->finite ? "" : ",\"skipped\":true");
    return ++r->n == r->steps ? finish(t) : CHI_OK;
}

chi_status trace_close(struct trainer *t)
{
    struct trace *r = t->trace;
    if (!r) return CHI_OK;
    chi_status s = r->open ? finish(t) : CHI_OK;
    for (int a = 0; a < ARRAYS; a++) mem_free(r->value[a]);
    free(r->dir);
    free(r);
    t->trace = NULL;
    return s;
}
