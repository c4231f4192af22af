/* fake_model.h - just enough of a model, a spec and a config for run.c and ckpt.c. */
#ifndef FAKE_MODEL_H
#define FAKE_MODEL_H

#include "run.h"

struct config { const char *text, *shape; };
struct model  { struct spec *spec; struct model_tensor tensor[4]; float *params; };

enum { FAKE_FLOATS = 96 };              /* 3 tensors, 64-byte aligned, with padding */

void fake_open(struct model *, struct spec *, struct config *);
/* Weights and n moments that depend on seed only                                 */
void fake_fill(struct model *, float *moments, int n, int seed);
bool fake_equal(const struct model *, const float *moments, int n, int seed);

#endif
