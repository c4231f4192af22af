/* ckptdrive.c - saves or checks the checkpoints of a fake run, for storage.sh.
 *
 *     ckptdrive save DIR STEP     opens the run, appends a metrics line, saves STEP
 *     ckptdrive check DIR         loads the newest; prints its step if every number in
 *                                 it is the one that was saved; "none" without one  */
#include "core.h"
#include "fake_model.h"

#include <stdlib.h>
#include <string.h>

static float moments[2 * FAKE_FLOATS];
static const char *const moment_names[] = { "m", "v" };
static const struct ckpt_moments mo = { 2, moment_names, moments };

static chi_status save(const char *dir, struct model *m, struct config *c, int step, char **argv)
{
    struct run *r;
    chi_status s = run_open(&r, dir, c, true, 4, argv);
    if (s != CHI_OK) return s;
    struct ckpt_meta meta = { .step = step, .tokens = step * 10, .data_hash = UINT64_MAX };
    fake_fill(m, moments, 2, step);
    s = run_status(r, "running", NULL);
    if (s == CHI_OK) s = run_metrics(r, "{\"step\": 1}");
    meta.metrics_bytes = run_metrics_bytes(r);
    if (s == CHI_OK) s = ckpt_save(r, m, &mo, &meta, 1);
    if (s == CHI_OK) s = run_status(r, "done", NULL);
    run_close(r);
    return s;
}

static chi_status check(const char *dir, struct model *m)
{
    struct ckpt_meta meta;
    char *path;
    TRY(ckpt_latest(dir, &path));
    if (!path) return puts("none") < 0 ? CHI_EIO : CHI_OK;
    chi_status s = ckpt_load(path, m, &mo, &meta);
    free(path);
    if (s == CHI_OK && !fake_equal(m, moments, 2, (int)meta.step)) s = fail(CHI_EDATA, "other numbers");
    if (s == CHI_OK) printf("%lld\n", (long long)meta.step);
    return s;
}

int main(int argc, char **argv)
{
    struct spec spec;
    struct model m;
    struct config c = { "[model]\nhidden_size = 4\n", "model.hidden_size = 4\n" };
    fake_open(&m, &spec, &c);
    chi_status s = fail(CHI_ECONF, "usage: ckptdrive save DIR STEP | check DIR");
    if (argc == 4 && !strcmp(argv[1], "save")) s = save(argv[2], &m, &c, atoi(argv[3]), argv);
    if (argc == 3 && !strcmp(argv[1], "check")) s = check(argv[2], &m);
    if (s != CHI_OK) fprintf(stderr, "ckptdrive: %s\n", fail_text());
    return exit_code(s);
}
