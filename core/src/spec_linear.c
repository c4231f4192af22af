/* spec_linear.c - which rule a matrix has, by patterns on its name; see spec.h.          */
#include <string.h>

#include "spec.h"

/* Only the last '*' ever needs to take more, so many of them cost no more than one.      */
bool spec_matches(const char *pattern, const char *name)
{
    const char *star = NULL, *from = NULL;
    while (*name)
        if (*pattern == '*') {
            star = ++pattern;
            from = name;
        } else if (*pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star;
            name = ++from;
        } else
            return false;
    while (*pattern == '*') pattern++;
    return !*pattern;
}

/* A pattern speaks of the embedding, and of a head of its own, only if it is that very name           */
static bool rule_is_for(const struct linear_rule *r, const char *name)
{
    if (!strcmp(name, "embed") || !strcmp(name, "lm_head")) return !strcmp(r->pattern, name);
    return spec_matches(r->pattern, name);
}

const struct linear_rule *spec_linear(const struct spec *s, const char *name)
{
    const struct linear_rule *best = NULL;
    for (int64_t i = 0; i < s->n_rule; i++) {
        const struct linear_rule *r = &s->rule[i];
        if (!rule_is_for(r, name)) continue;
        if (!best || strlen(r->pattern) >= strlen(best->pattern)) best = r;
    }
    return best || strcmp(name, "lm_head") ? best : spec_linear(s, "embed");
}
