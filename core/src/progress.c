/* progress.c - see progress.h.                                                       */
#include "progress.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "core.h"

enum { SILENCE = 60 };                      /* seconds                                */

void progress_begin(struct progress *p, int64_t step)
{
    *p = (struct progress){ .tty = isatty(2), .begun = now_s(), .said = -1, .first = step };
}

static void duration(char out[32], double s)
{
    int64_t t = s > 0 && s < 1e9 ? (int64_t)s : 0;
    if (t >= 3600) snprintf(out, 32, "%lldh%02lldm", (long long)(t / 3600), (long long)(t / 60 % 60));
    else snprintf(out, 32, "%lldm%02llds", (long long)(t / 60), (long long)(t % 60));
}

void progress_step(struct progress *p, const struct progress_step *s)
{
    char left[32], rss[32];
    double now = now_s(), since = now - p->said;
    bool last = s->step == s->steps, first = p->said < 0;
    if (p->tty ? since < 0.1 && !last
               : !first && !last && !(s->due && since >= 1) && since < SILENCE) return;
    duration(left, s->step_s * (double)(s->steps - s->step));
    human_bytes(rss, rss_bytes());
    char *bpb = isnan(s->bpb) ? xstrdup("") : xprintf("  bpb %.4f", s->bpb);
    char *line = xprintf("step %lld/%lld  loss %.4f%s  lr %.2e  %.0f tok/s  left %s  memory %s", (long long)s->step,
                         (long long)s->steps, s->loss, bpb, s->lr, s->tok_s, left, rss);
    free(bpb);
    if (p->tty) status_line(line);
    else note("%s", line);
    p->said = now;
    free(line);
}

void progress_part(struct progress *p, const char *name, int64_t done, int64_t total)
{
    double now = now_s(), before = p->said < 0 ? p->begun : p->said;
    if (done >= total || now - before < (p->tty ? 0.1 : SILENCE)) return;
    char *line = xprintf("%s %.0f %%", name, 100 * (double)done / (double)total);
    if (p->tty) status_line(line);
    else note("%s", line);
    free(line);
    p->said = now;
}

void progress_end(struct progress *p)
{
    if (p->tty) status_line(NULL);
    fflush(stderr);
}
