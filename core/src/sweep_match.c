/* sweep_match.c - equal budgets: the value of one width key whose count is nearest to a target.
 *
 * The count is that of the plan, so nothing runs.  It is taken to grow with the width: the width
 * is doubled or halved until the target lies between two of them, then the interval is cut, in
 * turns by interpolation and in half, down to one match_step.                              */
#include "core.h"
#include "spec.h"
#include "sweep.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct search {
    struct sweep_case c;
    double  target;
    int64_t step;
};
struct point { int64_t w; double count; };  /* w in steps                                */

static chi_status count(const struct search *s, struct point *p)
{
    struct spec *spec;
    struct model_counts n;
    struct sweep_case c = s->c;
    char *text = xprintf("%lld", (long long)(p->w * s->step));
    c.matched = text;
    chi_status st = sweep_case_open(&c, &spec, &n);
    free(text);
    TRY(st);
    spec_close(spec);
    p->count = sweep_budget(s->c.axes, &n);
    return CHI_OK;
}

/* Two points around the target, or low == high if the smallest is too large             */
static chi_status bracket(const struct search *s, struct point *low, struct point *high)
{
    enum { DOUBLINGS = 24 };
    TRY(count(s, low));
    *high = *low;
    for (int i = 0; low->count > s->target && low->w > 1; i++) {
        *high = *low;
        low->w = max_i64(1, low->w / 2);
        TRY(count(s, low));
    }
    for (int i = 0; high->count < s->target && i < DOUBLINGS; i++) {
        *low = *high;
        high->w *= 2;
        TRY(count(s, high));
        if (high->count <= low->count) break;   /* the width does not count            */
    }
    return CHI_OK;
}

static chi_status narrow(const struct search *s, struct point *low, struct point *high)
{
    for (int turn = 0; high->w - low->w > 1; turn++) {
        struct point p = { .w = (low->w + high->w) / 2 };
        double part = (s->target - low->count) / (high->count - low->count);
        if (turn % 2 == 0 && isfinite(part)) p.w = low->w + llround(part * (double)(high->w - low->w));
        p.w = max_i64(low->w + 1, min_i64(high->w - 1, p.w));
        TRY(count(s, &p));
        if (p.count < s->target) *low = p;
        else *high = p;
    }
    return CHI_OK;
}

/* The key's value in the case as it stands                                               */
static chi_status first_width(struct search *s, struct point *p)
{
    const struct sweep_options *o = &s->c.axes->o;
    struct spec *spec;
    struct model_counts n;
    const char *dot = strrchr(o->match_key, '.');
    char *section = xprintf("%.*s", (int)(dot - o->match_key), o->match_key);
    chi_status st = sweep_case_open(&s->c, &spec, &n);
    const char *text = st == CHI_OK ? config_get(spec->config, section, dot + 1) : NULL;
    p->w = text ? strtoll(text, NULL, 10) / s->step : 0;
    if (st == CHI_OK) spec_close(spec);
    if (st == CHI_OK && p->w < 1)
        st = fail(CHI_ECONF, "%s: match_key = %s: the file must set it to a whole number, at least"
                  " match_step",
                  s->c.path, o->match_key);
    free(section);
    return st;
}

double sweep_budget(const struct sweep_axes *a, const struct model_counts *n)
{
    return (double)(a->o.match == MATCH_PARAMS ? n->params : a->o.match == MATCH_FLOPS ? n->flops_per_token
                    : n->state_bytes);
}

chi_status sweep_match(const struct sweep_case *c, double target, char **value)
{
    struct search s = { *c, target, c->axes->o.match_step };
    struct point low = { 0 }, high;
    s.c.matched = NULL;
    TRY(first_width(&s, &low));
    TRY(bracket(&s, &low, &high));
    TRY(narrow(&s, &low, &high));
    struct point best = fabs(low.count - target) <= fabs(high.count - target) ? low : high;
    if (fabs(best.count - target) > c->axes->o.match_tolerance * target)
        return fail(CHI_ECONF, "%s: match: %s = %lld comes nearest with %.0f of %.0f; more than"
                    " match_tolerance %g off:"
                    " another match_key or a wider tolerance", c->path, c->axes->o.match_key,
                    (long long)(best.w * s.step), best.count, target, c->axes->o.match_tolerance);
    *value = xprintf("%lld", (long long)(best.w * s.step));
    return CHI_OK;
}
