/* report_label.c - what a sweep calls its jobs.  The folder of a sweep has a journal with a line for
 * each job; its labels say in the words of who planned it what the keys of a resolved configuration
 * say only together ("layers-6" for a width that was matched, a pattern and a loop that is gone).  */
#include "report.h"

#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "fs.h"
#include "sweep.h"

/* Seeds make no arms, and a matched width follows from the arm                                  */
static bool names_arm(const char *column)
{
    size_t n = strlen(column), tail = strlen(" (matched)");
    return strcmp(column, "run.seed") && (n < tail || strcmp(column + n - tail, " (matched)"));
}

/* "GD-16", or "f32-64, lr=2e-3"                                                                 */
static char *label_of(const struct sweep_journal *g, const struct sweep_job *j)
{
    char *text = xstrdup("");
    for (int64_t i = 0; i < g->n_column; i++) {
        if (!names_arm(g->column[i])) continue;
        const char *dot = strrchr(g->column[i], '.'), *value = *j->label[i] ? j->label[i] : "none";
        char *more = dot ? xprintf("%s%s%s=%s", text, *text ? ", " : "", dot + 1, value)
                         : xprintf("%s%s%s", text, *text ? ", " : "", value);
        free(text);
        text = more;
    }
    return text;
}

/* The run is SWEEP/ID, or of no sweep.  A journal that cannot be read names nothing              */
char *report_label(const char *real, int64_t *place)
{
    const char *slash = strrchr(real, '/');
    char *parent = slash ? xprintf("%.*s", (int)(slash - real), real) : xstrdup("."), *text = NULL;
    char *path = fs_join(parent, "journal");
    struct sweep_journal g = { 0 };
    if (fs_exists(path) && sweep_journal_open(&g, parent) == CHI_OK) {
        const struct sweep_job *j = sweep_job_find(&g, slash ? slash + 1 : real);
        if (j) text = label_of(&g, j);
        if (j) *place = j - g.job;
    }
    sweep_journal_close(&g);
    free(path);
    free(parent);
    return text;
}
