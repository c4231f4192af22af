/* sweep_slurm.c - the same sweep as an array of Slurm: a script whose tasks run one job each from
 * the same journal.  A task that is stopped, requeued or submitted again goes on; one whose job is
 * done ends at once.                                                                         */
#include "core.h"
#include "fs.h"
#include "sweep.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* 'text' for a shell                                                                           */
static void quoted(FILE *f, const char *text)
{
    fputc('\'', f);
    for (; *text; text++) {
        if (*text == '\'') fputs("'\\''", f);
        else fputc(*text, f);
    }
    fputc('\'', f);
}

chi_status sweep_write_slurm(const struct sweep_journal *g, const char *file, int64_t jobs)
{
    char *text = NULL, self[4096], *dir = realpath(g->dir, NULL);
    size_t n = 0;
    ssize_t k = readlink("/proc/self/exe", self, sizeof self - 1);
    self[max_i64(k, 0)] = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f || !dir) return fail(CHI_ENOMEM, "no memory for the text of %s", file);
    fprintf(f, "#!/bin/sh\n"
            "# %lld jobs of one sweep. Add what your cluster wants: --partition, --time, --account.\n"
            "#SBATCH --job-name=chimera-sweep\n"
            "#SBATCH --array=0-%lld%%%lld\n"
            "#SBATCH --cpus-per-task=1\n"
            "#SBATCH --requeue\n"
            "#SBATCH --open-mode=append\n"
            "#SBATCH --signal=B:TERM@120\n"
            "#SBATCH --output=\"%s/slurm-%%a.out\"\n"
            "set --", (long long)g->n_job, (long long)g->n_job - 1, (long long)jobs, dir);
    for (int64_t i = 0; i < g->n_job; i++) fprintf(f, " \\\n    %s", g->job[i].id);
    fputs("\nshift \"$SLURM_ARRAY_TASK_ID\"\nexec ", f);
    quoted(f, self);
    fputs(" sweep ", f);
    quoted(f, dir);
    fputs(" --job \"$1\"\n", f);
    fclose(f);
    chi_status s = fs_write_atomic(file, text, (int64_t)n);
    free(text);
    free(dir);
    return s;
}
