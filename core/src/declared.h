/* declared.h - numbers that a paper or a seed states of a model, beside those counted.
 *
 * [declared] is about the whole model, [declared.NAME] about the layers of [layer.NAME].
 * Nothing is computed from them: `chimera inspect` prints both.                  */
#ifndef DECLARED_H
#define DECLARED_H

#include <chimera/option.h>
#include <stdio.h>

struct spec;
struct model;
struct model_counts;

enum { DECLARED_MAX = 16 };             /* sections of a configuration           */

struct declared {                       /* 0: not declared                       */
    const char *section;                /* the config's                          */
    int64_t parameters, active_parameters, weights_mb, state_mb;
};
struct declared_counts { int64_t params, active_params, weight_bytes, state_bytes; };

extern const struct chi_option declared_table[];

/* Reads the sections there are; errors go to the config                         */
void declared_open(struct spec *);
/* What the layers that a section is about are made of                           */
void declared_count(const struct model *, const char *section, struct declared_counts *);
void declared_print(const struct spec *, const struct model_counts *, FILE *);

#endif
