/* bpe_rig.h - tokenizers opened from the files of tests/data/tokenizers, as they are or changed.     */
#ifndef BPE_RIG_H
#define BPE_RIG_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "spec.h"
#include "tokens.h"

struct open { struct spec *spec; struct tokens *t; };
/* words: overrides, ended by NULL                                                                     */
chi_status open_with(struct open *, const char *const *words);
void open_file(struct open *, const char *tokenizer, const char *file, const char *more);
/* small.json with some of it changed; of a pair the first place becomes the second               */
void open_changed(struct open *, const char *const (*change)[2], int n_change, const char *more);
/* small.json with another pre_tokenizer                                                              */
void open_with_pre(struct open *, const char *pre);
void shut(struct open *);
char *data_path(const char *name);
unsigned char *file_of(const char *name, int64_t *n);

#endif
