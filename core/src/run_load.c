/* run_load.c - from a run's name to a model with the weights of its newest checkpoint. */
#include "run.h"
#include "core.h"
#include "fs.h"

#include <stdlib.h>

/* A training process may remove the checkpoint between the search and the reading: then
 * there is a newer one, so search again.                                          */
static chi_status load_newest(const char *dir, struct model *m)
{
    for (int tries = 0;; tries++) {
        struct ckpt_meta meta;
        char *path;
        TRY(ckpt_latest(dir, &path));
        if (!path)
            return fail(CHI_EDATA, "%s has no checkpoint yet: train first (chimera train), or wait for the first one", dir);
        chi_status s = ckpt_load(path, m, NULL, &meta);
        bool gone = !fs_is_dir(path);
        free(path);
        if (s == CHI_OK || !gone || tries == 3) return s;
    }
}

/* As if data.task=NAME stood among the overrides                                  */
static chi_status other_task(const char *subject, char *const *overrides, int n, const char *task, struct config **c)
{
    char **all = xcalloc((size_t)n + 1, sizeof *all), *word = xprintf("data.task=%s", task);
    for (int i = 0; i < n; i++) all[i] = overrides[i];
    all[n] = word;
    chi_status s = run_config(subject, all, n + 1, c);
    free(word);
    free(all);
    if (s == CHI_OK) config_clear(*c, "task");
    return s;
}

chi_status run_load_model(const char *subject, char *const *overrides, int n, const char *task, int needs,
                          int64_t max_rows, int64_t max_segs, struct spec **spec,
                          struct model **model)
{
    struct config *c;
    *spec = NULL;
    *model = NULL;
    TRY(task ? other_task(subject, overrides, n, task, &c) : run_config(subject, overrides, n, &c));
    TRY(spec_open(spec, c, needs | SPEC_MODEL));
    /* A run folder holds its own checkpoints, wherever [run] dir once pointed     */
    const char *dir = fs_is_dir(subject) ? subject : (*spec)->run.dir;
    chi_status s = model_open(model, *spec, MODEL_INFER, max_rows, max_segs);
    if (s == CHI_OK) s = load_newest(dir, *model);
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
