/* train_save.c - the trainer's checkpoints: what a step leaves behind and goes on from.
 *
 * A checkpoint holds weights, moments, the step, the cursor into the data and the length
 * of metrics.jsonl.  Whatever else a step depends on is a function of these and of the
 * configuration, except for rollbacks, which RUN/rollback.txt lists: a line of
 * "from bad epoch position" each (struct rollback).                                  */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "fs.h"
#include "schedule.h"
#include "tokens.h"
#include "trainer.h"

/* A NaN on the disk would be there for ever: the step after it is what says so       */
static bool is_finite(const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(v[i])) return false;
    return true;
}

static chi_status check_finite(const struct trainer *t)
{
    const struct model_tensor *w;
    for (int64_t i = 0; (w = model_tensor(t->model, i)); i++)
        if (w->w && !is_finite(w->w, w->n))
            return fail(CHI_ENUMERIC, "%s is not finite since the last step", w->name);
    for (int64_t i = 0; i < t->n_slice; i++)
        for (int32_t k = 0; k < t->moments.n; k++)
            if (!is_finite(t->slice[i].m + k * t->slice[i].stride, t->slice[i].n))
                return fail(CHI_ENUMERIC, "moment %s of %s is not finite since the last step",
                            t->moments.name[k], t->slice[i].name);
    return CHI_OK;
}

/* Seconds that training took: up to the checkpoint gone on from, and since then       */
double trainer_wall(const struct trainer *t)
{
    return t->wall_s + now_s() - t->begun;
}

chi_status trainer_save(struct trainer *t)
{
    struct ckpt_meta meta = {
        .step = t->step, .tokens = t->tokens, .epoch = t->cursor.epoch,
        .position = t->cursor.position, .data_hash = dataset_place_hash(t->data),
        .vocabulary = dataset_vocabulary(t->data).all,
        .metrics_bytes = t->evaluated == t->step ? t->evaluated_bytes : run_metrics_bytes(t->run),
        .samples_bytes = run_samples_bytes(t->run),
        .wall_ms = (int64_t)ceil(1000 * trainer_wall(t)),
    };
    TRY(check_finite(t));
    TRY(ckpt_save(t->run, t->model, &t->moments, &meta, t->spec->train.keep));
    t->saved = t->step;
    return CHI_OK;
}

/* ---- rollbacks ------------------------------------------------------------------- */

static char *rollback_path(const struct trainer *t)
{
    return xprintf("%s/rollback.txt", run_dir(t->run));
}

/* Those that began at or before the step gone on from                                 */
static chi_status read_rollbacks(struct trainer *t)
{
    char *path = rollback_path(t);
    FILE *f = fopen(path, "r");
    free(path);
    t->n_rollback = 0;
    if (!f) return CHI_OK;
    long long from, bad, epoch, position;
    while (t->n_rollback < ROLLBACKS
           && fscanf(f, "%lld %lld %lld %lld", &from, &bad, &epoch, &position) == 4)
        if (from <= t->step)
            t->rollback[t->n_rollback++] = (struct rollback){ from, bad, { epoch, position } };
    fclose(f);
    for (int i = 0; i < t->n_rollback; i++)
        if (t->rollback[i].from == t->step) t->cursor = t->rollback[i].cursor;
    return CHI_OK;
}

static chi_status write_rollbacks(const struct trainer *t)
{
    char text[ROLLBACKS * 100 + 1] = "";
    for (int i = 0; i < t->n_rollback; i++) {
        const struct rollback *r = &t->rollback[i];
        size_t n = strlen(text);
        snprintf(text + n, sizeof text - n, "%lld %lld %lld %lld\n", (long long)r->from,
                 (long long)r->bad, (long long)r->cursor.epoch, (long long)r->cursor.position);
    }
    char *path = rollback_path(t);
    chi_status s = fs_write_atomic(path, text, (int64_t)strlen(text));
    free(path);
    return s;
}

double trainer_lr(const struct trainer *t, int64_t step)
{
    double lr = schedule_lr(&t->spec->train, step);
    for (int i = 0; i < t->n_rollback; i++)
        if (t->rollback[i].from <= step && step <= t->rollback[i].bad) lr *= 0.5;
    return lr;
}

/* The share of the steps that is done when a step begins                               */
double trainer_progress(const struct trainer *t, int64_t step)
{
    return fmin(1, (double)step / (double)max_i64(t->spec->train.steps, 1));
}

/* The weights as a step meets them                                                     */
chi_status trainer_bind(struct trainer *t, int64_t step)
{
    model_progress(t->model, trainer_progress(t, step));
    return model_bind(t->model, schedule_lambda(&t->spec->train, step));
}

/* ---- going on -------------------------------------------------------------------- */

/* Before anything of the run folder is touched                                        */
bool trainer_imported(const char *checkpoint)
{
    struct ckpt_meta meta = { 0 };
    return ckpt_read_meta(checkpoint, &meta) == CHI_OK && !meta.step && !meta.data_hash;
}

chi_status trainer_check_data(const struct trainer *t, const char *checkpoint)
{
    struct ckpt_meta meta = { 0 };
    TRY(ckpt_read_meta(checkpoint, &meta));
    if (trainer_imported(checkpoint)) return CHI_OK;
    TRY(vocabulary_check(t->spec, dataset_vocabulary(t->data), checkpoint, meta.vocabulary));
    if (meta.data_hash != dataset_place_hash(t->data))
        return fail(CHI_EDATA, "%s was trained on other data than task %s gives now: its place in them "
                    "means nothing; give the old files, or begin with --fresh", checkpoint,
                    t->spec->task.component->name);
    return CHI_OK;
}

static chi_status load(struct trainer *t, const char *path, struct ckpt_meta *meta)
{
    TRY(ckpt_load(path, t->model, &t->moments, meta));
    t->step = t->saved = meta->step;
    t->tokens = meta->tokens;
    t->cursor = (struct cursor){ meta->epoch, meta->position };
    TRY(run_cut(t->run, meta->metrics_bytes, meta->samples_bytes));
    return trainer_bind(t, t->step);
}

static chi_status start_anew(struct trainer *t)
{
    t->saved = -1;
    TRY(run_cut(t->run, 0, 0));
    char *path = rollback_path(t);
    remove(path);
    free(path);
    TRY(model_init(t->model, (uint64_t)t->spec->run.seed));
    TRY(trainer_bind(t, 0));
    return t->spec->train.nonfinite == NONFINITE_ROLLBACK ? trainer_save(t) : CHI_OK;
}

chi_status trainer_start(struct trainer *t, const char *checkpoint)
{
    if (!checkpoint) return start_anew(t);
    struct ckpt_meta meta;
    TRY(load(t, checkpoint, &meta));
    t->wall_s = (double)meta.wall_ms / 1000;
    return read_rollbacks(t);
}

chi_status trainer_roll_back(struct trainer *t)
{
    char *path = NULL;
    struct rollback r = { .bad = t->step, .cursor = t->cursor };
    TRY(ckpt_latest(run_dir(t->run), &path));
    if (!path) return fail(CHI_EDATA, "%s has no checkpoint to roll back to", run_dir(t->run));
    struct ckpt_meta meta;
    chi_status s = load(t, path, &meta);
    free(path);
    if (s != CHI_OK) return s;
    r.from = t->step;
    t->cursor = r.cursor;
    t->rollback[t->n_rollback++] = r;
    t->line_tokens = t->tokens;
    return write_rollbacks(t);
}

/* ---- the configuration that a run began with --------------------------------------- */

/* Is "section / line" among the lines of text?                                        */
static bool has_line(const char *text, const char *section, const char *line)
{
    char now[128] = "";
    size_t n = strlen(line);
    for (const char *p = text, *end; *p; p = *end ? end + 1 : end) {
        end = p + strcspn(p, "\n");
        if (*p == '[') snprintf(now, sizeof now, "%.*s", (int)(end - p), p);
        else if ((size_t)(end - p) == n && !strncmp(p, line, n) && !strcmp(now, section)) return true;
    }
    return false;
}

/* Nothing of these sections and keys moves a weight: where, how often and what is written down          */
static bool may_change(const char *section, const char *line)
{
    static const char *const free_sections[] = { "[run]", "[generate]", "[backend]", "[plugins]", "[deployment]" };
    static const char *const free_keys[] = { "checkpoint_every", "keep", "log_every", "eval_every", "trace_steps" };
    size_t n = strcspn(line, " =");
    for (int64_t i = 0; i < COUNT(free_sections); i++)
        if (!strcmp(section, free_sections[i])) return true;
    for (int64_t i = 0; i < COUNT(free_keys) && !strcmp(section, "[train]"); i++)
        if (strlen(free_keys[i]) == n && !memcmp(free_keys[i], line, n)) return true;
    return !strncmp(section, "[declared", 9);
}

void warn_of_changes(struct trainer *t)
{
    char *path = xprintf("%s/config.ini", t->spec->run.dir), *text = NULL, section[128] = "";
    unsigned char *old = NULL;
    size_t size = 0;
    int64_t n;
    FILE *f = open_memstream(&text, &size);
    if (f && fs_exists(path) && fs_read(path, &old, &n) == CHI_OK) {
        config_print(t->spec->config, f, false);
        fflush(f);
        for (char *p = text, *next; p && *p; p = next) {
            next = p + strcspn(p, "\n");
            if (*next) *next++ = 0;
            if (*p == '[') snprintf(section, sizeof section, "%s", p);
            else if (*p && *p != ';' && !may_change(section, p) && !has_line((char *)old, section, p))
                warn("%s %s is not what %s began with: the result will be neither run's", section, p,
                     t->spec->run.dir);
        }
    }
    if (f) fclose(f);
    free(text);
    mem_free(old);
    free(path);
}
