/* budget.c - the memory of a model in use, in parts: weights by encoding, states, work space; and the budget
 * that refuses it before anything is taken.                                                          */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "network.h"
#include "packed.h"

/* ---- weights --------------------------------------------------------------------------------------- */

static void add_class(struct model_counts *c, const char *name, int64_t bytes)
{
    int64_t i = 0;
    while (i < c->n_weights && strcmp(c->weights[i].name, name)) i++;
    if (i == CLASSES_MAX) i--;                          /* more encodings than any model has            */
    if (i == c->n_weights) {
        c->n_weights++;
        c->weights[i] = (struct weight_class){ .bytes = 0 };
        snprintf(c->weights[i].name, sizeof c->weights[i].name, "%s", name);
    }
    c->weights[i].bytes += bytes;
}

void count_classes(const struct model *m, struct model_counts *c)
{
    char name[80];
    int64_t t = 0;
    c->n_weights = 0;
    for (int64_t i = 0; i < m->n_all; i++)
        for (int64_t j = 0; j < m->all[i]->n_param; j++, t++) {
            const struct planned_param *p = &m->all[i]->param[j];
            bool encoded = p->linear && !p->linear->f32_only;
            snprintf(name, sizeof name, "%s%s", encoded ? p->linear->encoding_name : "f32",
                     encoded && strstr(p->name, "experts.") ? " of experts" : "");
            add_class(c, name, weight_bytes(p));
        }
}

/* ---- turns of a loop -------------------------------------------------------------------------------- */

void count_turns(const struct model *m, struct model_counts *c)
{
    const struct turning *t = &m->loop;
    double read = 0;
    c->n_turns = t->length ? COUNT(c->turns) : 0;
    for (int64_t l = t->prelude; l < t->prelude + t->length; l++) {
        const struct block *b = &m->block[l];
        read += instance_read_bytes(&b->mixer) + instance_read_bytes(&b->ffn) + instance_read_bytes(&b->norms);
    }
    for (int64_t i = 0; i < c->n_turns; i++) {
        int64_t turns = i + 1, more = turns - t->turns;
        int64_t state = more * t->state_bytes + round_up(turns * (int64_t)sizeof(int64_t), 64)
                      - round_up(t->turns * (int64_t)sizeof(int64_t), 64);
        c->turns[i] = (struct turns_count){ turns, c->state_bytes + state,
                                            c->read_bytes_per_token + more * llround(read) + state };
    }
}

/* ---- the budget --------------------------------------------------------------------------------------- */

/* What a generator takes beside the model: logits of each stream, the sampler's numbers, rows      */
static int64_t generator_bytes(const struct model *m)
{
    return m->vocab * (4 * m->max_segs + 24) + 4 * m->max_rows * m->d;
}

static char *list_classes(const struct model_counts *c)
{
    char *text = xstrdup(""), size[32];
    for (int64_t i = 0; i < c->n_weights; i++) {
        human_bytes(size, c->weights[i].bytes);
        char *more = xprintf("%s%s%s %s", text, i ? ", " : "", c->weights[i].name, size);
        free(text);
        text = more;
    }
    return text;
}

chi_status budget_check(const struct model *m)
{
    int64_t budget = m->spec->deployment.memory_budget_mb << 20, weights = 0;
    if (!budget) return CHI_OK;
    struct model_counts *c = xcalloc(1, sizeof *c);
    count_classes(m, c);
    for (int64_t i = 0; i < c->n_weights; i++) weights += c->weights[i].bytes;
    int64_t states = m->max_segs * m->state_bytes, work = max_i64(0, plan_bytes(m) - weights) + generator_bytes(m);
    char all[32], of_weights[32], of_states[32], one[32], of_work[32], allowed[32], *classes = list_classes(c);
    human_bytes(all, weights + states + work);
    human_bytes(of_weights, weights);
    human_bytes(of_states, states);
    human_bytes(one, m->state_bytes);
    human_bytes(of_work, work);
    human_bytes(allowed, budget);
    chi_status s = weights + states + work <= budget ? CHI_OK
        : fail(CHI_ENOMEM, "running this model takes %s: weights %s (%s), states %s (%lld stream%s of %s), work "
               "space %s; "
               "deployment.memory_budget_mb = %lld allows %s: run fewer streams at once or fewer turns, or raise it",
               all,
               of_weights, classes, of_states, (long long)m->max_segs, m->max_segs > 1 ? "s" : "", one, of_work,
               (long long)m->spec->deployment.memory_budget_mb, allowed);
    free(classes);
    free(c);
    return s;
}
