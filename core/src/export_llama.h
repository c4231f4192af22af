/* export_llama.h - models that are llamas, too: the names, keys and order of rows that programs expect of GGUF
 * files with general.architecture = llama. */
#ifndef EXPORT_LLAMA_H
#define EXPORT_LLAMA_H

#include "gguf.h"
#include "spec.h"

/* Is it one?  CHI_ECONF: what is in the way                                                                */
chi_status llama_fits(const struct spec *) CHI_MUST_CHECK;
void llama_keys(struct gguf_writer *, const struct spec *);
/* The name there of a tensor of such a model; caller frees                                                 */
char *llama_name(const char *ours);
/* Rows of q_proj and k_proj, whole heads of them, in the order that goes with its rotary pairs, in place; others
 * stay */
chi_status llama_order(const struct spec *, const char *ours, void *data, int64_t rows, int64_t bytes) CHI_MUST_CHECK;

int64_t llama_head(const struct spec *);            /* rows of a head                                       */

#endif
