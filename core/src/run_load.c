/* run_load.c - from a run's or a packed file's name to a model with its weights. */
#include "run.h"
#include "ckpt.h"
#include "core.h"
#include "fs.h"
#include "packed.h"

#include <stdlib.h>
#include <string.h>

/* A training process may remove the checkpoint between the search and the reading: then
 * there is a newer one, so search again.                                          */
static chi_status load_newest(const char *dir, struct model *m, struct ckpt_meta *meta)
{
    for (int tries = 0;; tries++) {
        char *path;
        TRY(ckpt_latest(dir, &path));
        if (!path)
            return fail(CHI_EDATA, "%s has no checkpoint yet: train first (chimera train), or wait for the first one",
                        dir);
        chi_status s = ckpt_load(path, m, NULL, meta);
        bool gone = !fs_is_dir(path);
        free(path);
        if (s == CHI_OK || !gone || tries == 3) return s;
    }
}

/* The configuration of a run or INI, or the one inside a packed model.  With task, as if
 * data.task=NAME stood among the overrides, and [task] of the file did not          */
static chi_status open_config(const char *subject, const struct packed *p, char *const *overrides, int n,
                              const char *task, struct config **c)
{
    char **all = xcalloc((size_t)n + 1, sizeof *all), *word = xprintf("data.task=%s", task ? task : "");
    for (int i = 0; i < n; i++) all[i] = overrides[i];
    if (task) all[n++] = word;
    chi_status s = p ? config_load_text(c, subject, packed_config(p), all, n) : run_config(subject, all, n, c);
    free(word);
    free(all);
    if (s == CHI_OK && task) config_clear(*c, "task");
    return s;
}

/* The encodings are those of the file                                              */
static chi_status check_overrides(const char *path, char *const *overrides, int n)
{
    for (int i = 0; i < n; i++)
        if (!strncmp(overrides[i], "linear.", 7))
            return fail(CHI_ECONF,
                        "%s: the weights of a packed model are what they are: chimera convert %s -e ENCODING"
                        " writes them in another encoding", overrides[i], path);
    return CHI_OK;
}

chi_status run_packed_spec(const char *path, char *const *overrides, int n, const char *task, int needs,
                           struct spec **spec)
{
    struct packed *p;
    struct config *c;
    *spec = NULL;
    TRY(check_overrides(path, overrides, n));
    TRY(packed_open(&p, path));
    chi_status s = open_config(path, p, overrides, n, task, &c);
    if (s == CHI_OK) s = spec_open(spec, c, needs | SPEC_MODEL);
    if (s != CHI_OK) {
        packed_close(p);
        return s;
    }
    (*spec)->packed = p;
    s = manifest_text_fits(path, packed_manifest(p), *spec);
    if (s == CHI_OK) s = manifest_text_vocabulary(path, packed_manifest(p), &(*spec)->vocabulary);
    (*spec)->vocabulary_of = xstrdup(path);
    if (s == CHI_OK) return s;
    char *why = xstrdup(fail_text());
    spec_close(*spec);
    *spec = NULL;
    fail(s, "%s", why);
    free(why);
    return s;
}

static chi_status load(const char *subject, char *const *overrides, int n, const char *task, int needs,
                       int64_t max_rows, int64_t max_segs, struct spec **spec, struct model **model)
{
    if (packed_is(subject)) {
        TRY(run_packed_spec(subject, overrides, n, task, needs, spec));
        if (needs & SPEC_STREAMS) max_segs = min_i64(max_segs, (*spec)->deployment.streams);
        TRY(model_open(model, *spec, MODEL_INFER, max_rows, max_segs));
        return model_load_packed(*model);
    }
    struct config *c;
    TRY(open_config(subject, NULL, overrides, n, task, &c));
    TRY(spec_open(spec, c, needs | SPEC_MODEL));
    /* A run folder holds its own checkpoints, wherever [run] dir once pointed      */
    const char *dir = fs_is_dir(subject) ? subject : (*spec)->run.dir;
    if (needs & SPEC_STREAMS) max_segs = min_i64(max_segs, (*spec)->deployment.streams);
    TRY(model_open(model, *spec, MODEL_INFER, max_rows, max_segs));
    struct ckpt_meta meta = { 0 };
    chi_status s = run_is_checkpoint(subject) ? ckpt_load(subject, *model, NULL, &meta)
        : load_newest(dir, *model, &meta);
    (*spec)->vocabulary = meta.vocabulary;
    (*spec)->vocabulary_of = xstrdup(subject);
    return s;
}

chi_status run_load_model(const char *subject, char *const *overrides, int n, const char *task, int needs,
                          int64_t max_rows, int64_t max_segs, struct spec **spec,
                          struct model **model)
{
    *spec = NULL;
    *model = NULL;
    chi_status s = load(subject, overrides, n, task, needs, max_rows, max_segs, spec, model);
    if (s != CHI_OK) {
        char *why = xstrdup(fail_text());
        model_close(*model);
        spec_close(*spec);
        *model = NULL;
        *spec = NULL;
        fail(s, "%s", why);
        free(why);
    }
    return s;
}

bool run_has_weights(const char *subject)
{
    return run_is_folder(subject) || run_is_checkpoint(subject) || packed_is(subject);
}

chi_status run_spec(const char *subject, char *const *overrides, int n, int needs, struct spec **spec)
{
    struct config *c;
    *spec = NULL;
    if (packed_is(subject)) return run_packed_spec(subject, overrides, n, NULL, needs, spec);
    TRY(run_config(subject, overrides, n, &c));
    return spec_open(spec, c, needs);
}
