/* sweep_time.c - expected hours: the first steps of each kind of job are taken and timed on all
 * cores, then multiplied.  Jobs that differ in the seed alone are of one kind.            */
#include "core.h"
#include "fs.h"
#include "sweep.h"
#include "trainer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The job's resolved configuration goes into a file of its own for as long as it takes     */
static chi_status time_job(const struct sweep_job *j, double *seconds)
{
    const char *folder = getenv("TMPDIR");
    char *path = fs_join(folder && *folder ? folder : "/tmp", "chimera-sweep.XXXXXX");
    chi_status s = CHI_OK;
    int fd = mkstemp(path);
    if (fd < 0 || !fs_write_all(fd, j->config, (int64_t)strlen(j->config))) s = fs_fail("write", path);
    const struct train_request q = { .subject = path };
    if (s == CHI_OK) s = trainer_time(&q, seconds);
    if (fd >= 0) {
        unlink(path);
        close(fd);
    }
    free(path);
    return s;
}

/* An earlier job whose labels are the same but for run.seed, or -1                          */
static int64_t alike(const struct sweep_journal *g, int64_t job)
{
    for (int64_t i = 0; i < job; i++) {
        bool same = true;
        for (int64_t c = 0; c < g->n_column && same; c++)
            same = !strcmp(g->column[c], "run.seed") || !strcmp(g->job[i].label[c], g->job[job].label[c]);
        if (same) return i;
    }
    return -1;
}

chi_status sweep_print_time(const struct sweep_journal *plan, FILE *f)
{
    double *step = xcalloc((size_t)plan->n_job + 1, sizeof *step), sum = 0;
    chi_status s = CHI_OK;
    for (int64_t i = 0; i < plan->n_job && s == CHI_OK; i++) {
        int64_t twin = alike(plan, i);
        if (twin >= 0) step[i] = step[twin];
        else s = time_job(&plan->job[i], &step[i]);
        double hours = step[i] * (double)plan->job[i].steps / 3600;
        sum += hours;
        if (s == CHI_OK && twin < 0) fprintf(f, "%s  %.4f s a step, %.2f hours\n", plan->job[i].id, step[i],
                                             hours);
        fflush(f);
    }
    if (s == CHI_OK) fprintf(f, "all jobs, one after the other on all cores, without evaluations: %.2f"
                             " hours\n", sum);
    free(step);
    return s;
}
