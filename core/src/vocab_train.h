/* vocab_train.h - a vocabulary of byte-level BPE from text (arXiv 1508.07909).               */
#ifndef VOCAB_TRAIN_H
#define VOCAB_TRAIN_H

#include <chimera/base.h>
#include "progress.h"

/* Distinct pieces of text and how often each was there                                        */
struct piece { int64_t at, n, count; };         /* bytes text[at] .. text[at + n - 1]          */
struct pieces {
    unsigned char *text; int64_t text_n, text_room;
    struct piece *piece; int64_t n, room;
    int32_t *slot; uint64_t mask;               /* hash table of places in piece; -1: free     */
    int64_t bytes, skipped;                     /* of all text; of pieces too long to count    */
};
void pieces_count(struct pieces *, const unsigned char *text, int64_t n);      /* one piece, once more */
void pieces_free(struct pieces *);

/* Tokens in the order of their ranks                                                          */
struct vocab { unsigned char *text; int64_t *at; int64_t n; };
/* At most want tokens, 256 or more: the bytes, then joins of the most frequent pair of
 * neighbours while one is there at least least times.  Of equally frequent pairs the one with
 * the lower left id comes first, then with the lower right id.                                */
void vocab_train(struct vocab *, const struct pieces *, int64_t want, int64_t least, struct progress *);
void vocab_free(struct vocab *);
chi_status vocab_write(const struct vocab *, const char *path) CHI_MUST_CHECK;

#endif
