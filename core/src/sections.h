/* sections.h - the option tables of the core's own sections; core_sections[] in spec.h lists them. */
#ifndef SECTIONS_H
#define SECTIONS_H

#include "spec.h"

extern const struct chi_option model_table[], linear_table[], train_table[], run_table[], loop_table[],
                               data_table[], generate_table[], deployment_table[], backend_table[], plugin_table[];

/* Rows of a [linear...] section, whose defaults are what it inherits                      */
#define LINEAR_ROWS(quantizer_default, encoding_default, norm_default, adapter_default)           \
    CHI_REF(struct linear_options, quantizer, quantizer_default, "quantizer", \
            "what weights mean: f32, bf16, int8, ternary, ...", CHI_OPT_SHAPE), \
    CHI_REF(struct linear_options, encoding, encoding_default, "encoding", \
            "how they lie in memory; empty: the first that can hold them", CHI_OPT_RUNTIME), \
    CHI_BOOL(struct linear_options, extra_rmsnorm, norm_default, \
            "normalise the input of every quantised linear (arXiv 2505.08823)", CHI_OPT_SHAPE), \
    CHI_STRING(struct linear_options, adapter, adapter_default, \
            "what is added to it, in order: hgf, lora, ..., each with a section [adapter.NAME]", CHI_OPT_SHAPE), \
    CHI_OPTIONS_END

#endif
