/* pack.h - documents as an endless stream of rows, epoch after epoch.
 *
 * Document i with n tokens b_1..b_n has n + 1 rows: inputs END b_1 .. b_n, targets
 * b_1 .. b_n END.  An epoch is all documents in an order of its own (rng_permutation of
 * seed and epoch); the stream is epoch 0, epoch 1, ...; a sequence is the next seq_len
 * rows, so what does not fill one begins the next epoch's first.  Position counts the
 * rows used of an epoch, 0 .. rows-1: a cursor is all that there is to know.         */
#ifndef PACK_H
#define PACK_H

#include <stdint.h>

struct pack {
    const int32_t *id;                      /* all documents' tokens, without ends    */
    const int64_t *first;                   /* [n_doc + 1]: document i has
                                               id[first[i]] .. id[first[i+1]-1]       */
    int64_t  n_doc, rows;                   /* rows of an epoch                       */
    int32_t  end;
    uint64_t seed;
    int64_t  epoch;                         /* whose order is cached; -1: none        */
    int64_t *order, *before;                /* [n_doc], [n_doc + 1] rows before       */
};

struct packed_part { int64_t document, from, rows; };   /* rows from.. of a document  */

void pack_open(struct pack *, const int32_t *id, const int64_t *first, int64_t n_doc,
               int32_t end, uint64_t seed);
void pack_close(struct pack *);
/* The part that begins at (epoch, position) with at most max rows                    */
struct packed_part pack_part(struct pack *, int64_t epoch, int64_t position, int64_t max);
/* Its inputs and targets                                                             */
void pack_rows(const struct pack *, struct packed_part, int32_t *token, int32_t *target);
/* No window of n_seq sequences of seq_len rows has more parts than this              */
int64_t pack_max_parts(const struct pack *, int64_t n_seq, int64_t seq_len);

#endif
