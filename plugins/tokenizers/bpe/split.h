/* split.h - rules that cut a text into pieces, which no token crosses.
 *
 * Each rule is a regular expression, matched again and again from the left; split.c has it by
 * hand, because that is several times as fast.  Invalid UTF-8: a byte that is not part of a
 * well-formed character (RFC 3629) is a character by itself, of class P.                      */
#ifndef BPE_SPLIT_H
#define BPE_SPLIT_H

#include <chimera/host.h>

#include "unicode.h"

enum { SPLIT_NONE, SPLIT_GPT2, SPLIT_CL100K, SPLIT_QWEN2, SPLIT_O200K };    /* as in SPLIT_NAMES */
#define SPLIT_NAMES "none|gpt2|cl100k|qwen2|o200k"

/* Of all 0x110000 code points, from unicode.h, in the instance's memory; NULL: no memory    */
const unsigned char *bpe_classes(const struct chi_host *);
/* Bytes of the first piece of text[n], n >= 1                                               */
int64_t bpe_piece(int rule, const unsigned char *class_of, const unsigned char *text, int64_t n);
/* The class of the character at text[0], and its bytes                                      */
int bpe_class_at(const unsigned char *class_of, const unsigned char *text, int64_t n, int64_t *bytes);
/* The text as a split expression sees it, to to[n], or NULL to ask only: the byte U+001A, substitute, in place of
 * each
 * byte that is no part of a character, so that places are the same.  true: it is valid UTF-8       */
bool bpe_shown(const unsigned char *text, int64_t n, unsigned char *to);

#endif
