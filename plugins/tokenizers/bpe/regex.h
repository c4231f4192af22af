/* regex.h - the split expressions of a tokenizer.json, matched by the PCRE2 library.            */
#ifndef BPE_REGEX_H
#define BPE_REGEX_H

#include <chimera/host.h>

/* Compiles the expression with JIT; name begins messages.  Without the library: CHI_ENOTSUP.  [setup] */
chi_status bpe_regex_open(const struct chi_host *, const char *name, const char *pattern, const void **code)
           CHI_MUST_CHECK;
/* The first match at or behind from that is not empty: 1; there is none: 0; no memory to tell: -1    */
int bpe_regex_match(const void *code, const unsigned char *text, int64_t n, int64_t from, int64_t *begin,
                    int64_t *end);

#endif
