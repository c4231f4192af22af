/* validate.c - trials and the list of all checks; see validate.h.                        */
#include "validate.h"

#include <stdlib.h>
#include <string.h>

#include "core.h"

static const struct check *const tables[] = {
    checks_manifest, checks_config, checks_layer, checks_layer_memory, checks_layer_threads, checks_layer_numbers,
    checks_encodings, checks_quantizers, checks_backends, checks_objectives, checks_optimizers, checks_tokenizers,
    checks_tasks, checks_loops, checks_adapters, checks_perf,
};

const struct check *check_at(int64_t i)
{
    for (int64_t t = 0; t < COUNT(tables); t++)
        for (const struct check *c = tables[t]; c->name; c++)
            if (i-- == 0) return c;
    return NULL;
}

bool check_is(const struct check *c, const char *name)
{
    size_t n = name ? strlen(name) : 0;
    return !name || (!strncmp(c->name, name, n) && (!c->name[n] || c->name[n] == '.'));
}

/* ---- outcomes ------------------------------------------------------------------------ */

enum { LINES = 8 };

static void say(struct trial *t, enum outcome outcome, const char *fmt, va_list a)
{
    char line[2048];
    if (outcome > t->outcome) t->outcome = outcome;
    if (outcome > TRIAL_OK && t->lines++ >= LINES) return;
    vsnprintf(line, sizeof line, fmt, a);
    char *all = xprintf("%s%s\n", t->text ? t->text : "", line);
    free(t->text);
    t->text = all;
}

void trial_fail(struct trial *t, const char *fmt, ...)
{
    va_list a;
    va_start(a, fmt);
    say(t, TRIAL_FAILED, fmt, a);
    va_end(a);
}

void trial_warn(struct trial *t, const char *fmt, ...)
{
    va_list a;
    va_start(a, fmt);
    say(t, TRIAL_WARN, fmt, a);
    va_end(a);
}

void trial_skip(struct trial *t, const char *fmt, ...)
{
    va_list a;
    va_start(a, fmt);
    say(t, TRIAL_SKIP, fmt, a);
    va_end(a);
}

void trial_note(struct trial *t, const char *fmt, ...)
{
    va_list a;
    va_start(a, fmt);
    say(t, TRIAL_OK, fmt, a);
    va_end(a);
}

bool trial_must(struct trial *t, chi_status s, const char *what)
{
    if (s != CHI_OK) trial_fail(t, "%s: %s", what, fail_text());
    return s == CHI_OK;
}

/* ---- draws --------------------------------------------------------------------------- */

uint64_t trial_random(struct trial *t)                  /* splitmix64                      */
{
    uint64_t z = t->draw += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

int64_t trial_between(struct trial *t, int64_t lo, int64_t hi)
{
    return lo + (int64_t)(trial_random(t) % (uint64_t)(hi - lo + 1));
}

float trial_uniform(struct trial *t)
{
    return (float)((double)(trial_random(t) >> 40) / 8388608.0 - 1.0);
}

void check_run(const struct check *c, struct trial *t)
{
    t->draw = t->seed ^ xxh3(c->name, strlen(c->name));
    t->outcome = TRIAL_OK;
    c->run(t);
}
