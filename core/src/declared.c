/* declared.c - see declared.h.                                                     */
#include "declared.h"

#include <math.h>
#include <string.h>

#include "core.h"
#include "network.h"

const struct chi_option declared_table[] = {
    CHI_INT(struct declared, parameters, "0", 0, 1e18, "weights; 0 here and below: nothing is declared",
            CHI_OPT_RUNTIME),
    CHI_INT(struct declared, active_parameters, "0", 0, 1e18, "weights that a token meets", CHI_OPT_RUNTIME),
    CHI_INT(struct declared, weights_mb, "0", 0, 1e12, "bytes of weights in memory, in 10^6", CHI_OPT_RUNTIME),
    CHI_INT(struct declared, state_mb, "0", 0, 1e12, "bytes of a stream's state, in 10^6", CHI_OPT_RUNTIME),
    CHI_OPTIONS_END
};

/* ---- reading --------------------------------------------------------------------- */

/* Is the section about layers that there are?                                         */
static bool about_layers(struct spec *s, const char *section)
{
    const char *alias = section + strlen("declared."), *near = spec_near_alias(s->config, alias);
    if (near && !strcmp(near, alias)) return true;
    config_error(s->config, section, NULL, "there is no section [layer.%s] to declare anything of%s%s%s", alias,
                 near ? ": did you mean [declared." : "", near ? near : "", near ? "]?" : "");
    return false;
}

static void add(struct spec *s, const char *section)
{
    struct declared *d = &s->declared[s->n_declared];
    if (s->n_declared == DECLARED_MAX) {
        config_error(s->config, section, NULL, "more than %d sections of declared numbers", DECLARED_MAX);
        return;
    }
    if (config_parse(s->config, section, declared_table, d, NULL)) s->n_declared++;
    d->section = section;
}

void declared_open(struct spec *s)
{
    const char *section;
    if (config_has(s->config, "declared")) add(s, "declared");
    else config_ignore(s->config, "declared");
    for (int64_t i = 0; (section = config_section(s->config, "declared.", i)); i++)
        if (about_layers(s, section)) add(s, section);
        else config_ignore(s->config, section);
}

/* ---- counting -------------------------------------------------------------------- */

void declared_count(const struct model *m, const char *section, struct declared_counts *c)
{
    double active = 0;
    const char *alias = section + strlen("declared");    /* ".MOE", or "": the whole model      */
    *c = (struct declared_counts){ 0 };
    if (!*alias) return;
    for (int64_t l = 0; l < m->layers; l++) {
        const struct instance *in[2] = { &m->block[l].mixer, &m->block[l].ffn };
        for (int s = 0; s < 2; s++) {
            if (strcmp(in[s]->part->section + strlen("layer."), alias + 1)) continue;
            c->state_bytes += (looped(m, l) ? m->loop.turns : 1) * in[s]->state_bytes;
            for (int64_t i = 0; i < in[s]->n_param; i++) {
                const struct planned_param *p = &in[s]->param[i];
                c->params += p->n;
                c->weight_bytes += weight_bytes(p);
                active += p->share * (double)p->n;
            }
        }
    }
    c->active_params = llround(active);
}

/* ---- printing -------------------------------------------------------------------- */

static void row(FILE *out, const char *alias, const char *what, int64_t counted, int64_t declared, bool bytes)
{
    char name[64], a[32], b[32];
    if (!declared) return;
    snprintf(name, sizeof name, "%s%s%s", alias, *alias ? ": " : "", what);
    (bytes ? human_bytes : human_count)(a, counted);
    (bytes ? human_bytes : human_count)(b, declared);
    fprintf(out, "  %-28s %10s  %10s  %8.2f\n", name, a, b, (double)counted / (double)declared);
}

void declared_print(const struct spec *s, const struct model_counts *c, FILE *out)
{
    enum { MB = 1000000 };
    if (s->n_declared) fprintf(out, "  %-28s %10s  %10s  %8s\n", "beside what is declared", "counted", "declared",
                               "ratio");
    for (int64_t i = 0; i < s->n_declared; i++) {
        const struct declared *d = &s->declared[i];
        const struct declared_counts *n = &c->declared[i];
        bool whole = !strcmp(d->section, "declared");
        struct declared_counts all = { c->params, c->active_params, c->weight_bytes, c->state_bytes };
        const char *alias = whole ? "" : d->section + strlen("declared.");
        if (whole) n = &all;
        row(out, alias, "parameters", n->params, d->parameters, false);
        row(out, alias, "parameters a token meets", n->active_params, d->active_parameters, false);
        row(out, alias, "weights in memory", n->weight_bytes, d->weights_mb * MB, true);
        row(out, alias, "state per stream", n->state_bytes, d->state_mb * MB, true);
    }
}
