/* tokens.h - the spec's tokenizer, opened: text to tokens and back.              */
#ifndef TOKENS_H
#define TOKENS_H

#include "spec.h"

struct tokens;
chi_status tokens_open(struct tokens **, const struct spec *) CHI_MUST_CHECK;
chi_status tokens_open_alone(struct tokens **, const struct spec *) CHI_MUST_CHECK;   /* for no model */
void    tokens_close(struct tokens *);
int64_t tokens_vocab(const struct tokens *);
int32_t tokens_end(const struct tokens *);              /* ends a document         */
/* END, if end is set, and the text's tokens.  Caller frees.                      */
chi_status tokens_encode(const struct tokens *, const unsigned char *text, int64_t n, bool end,
                         int32_t **ids, int64_t *n_ids) CHI_MUST_CHECK;
/* Bytes of a token; they stay until the next call                                */
int64_t tokens_decode(struct tokens *, int32_t id, const unsigned char **bytes);
/* The bytes of the first piece, which no token crosses; 0: this tokenizer does not tell            */
int64_t tokens_piece(const struct tokens *, const unsigned char *text, int64_t n);
/* encode of any tokenizer, with the working memory that it asks for; *count: the ids of the text */
chi_status tokens_of(const struct chi_component *, const void *self, const unsigned char *text, int64_t n,
                     int32_t *ids, int64_t max, int64_t *count) CHI_MUST_CHECK;
/* Which ids a text has.  bytes: a hash of every token's bytes; all: of the tokenizer's rules, too, and the same
 * where it tells none.  Files are given all, older ones have bytes; 0: there is no tokenizer                       */
struct vocabulary { uint64_t bytes, all; };
struct vocabulary vocabulary_of(const struct chi_tokenizer_ops *, const void *self);
struct vocabulary tokens_vocabulary(const struct tokens *);
/* Are the spec's tokens those that the weights of `name` were trained with?  CHI_EDATA names both; 0 was
 * written down by nobody and fits all                                              */
chi_status vocabulary_check(const struct spec *, struct vocabulary now, const char *name,
                            uint64_t then) CHI_MUST_CHECK;

#endif
