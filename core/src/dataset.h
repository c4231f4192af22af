/* dataset.h - documents as tokens: packed for training, whole for evaluation.   */
#ifndef DATASET_H
#define DATASET_H

#include "model.h"

struct dataset;
/* Opens the spec's task and tokenizer; tokens are int32, ends included.          */
chi_status dataset_open(struct dataset **, const struct spec *) CHI_MUST_CHECK;
void dataset_close(struct dataset *);
uint64_t dataset_hash(const struct dataset *);    /* of names, splits and bytes    */
int64_t dataset_documents(const struct dataset *, int split);
int64_t dataset_bytes(const struct dataset *, int split);
int64_t dataset_tokens(const struct dataset *, int split);   /* rows: n + 1 a document */

struct cursor { int64_t epoch, position; };       /* rows used in the epoch's order */

/* The sequences of one optimizer step, seq_len rows each; the cursor moves.  Segments
 * of sequence s are seg[first_seg[s]] .. seg[first_seg[s+1]-1]; row r of sequence s is
 * token[s * seq_len + r].                                                        */
struct batch {
    int64_t  n_seq, seq_len, n_seg, scored;
    int64_t  bytes;                     /* of the scored targets                   */
    int32_t *token, *target;            /* [n_seq * seq_len]                       */
    int64_t *first_seg;                 /* [n_seq + 1]                             */
    struct model_segment *seg;          /* tokens point into token; pos 0, fresh   */
};
chi_status dataset_batch(struct dataset *, struct cursor *, struct batch *) CHI_MUST_CHECK;
void batch_free(struct batch *);
/* No n_seq sequences in a row have more segments than this                        */
int64_t dataset_max_segs(const struct dataset *, int64_t n_seq, int64_t seq_len);
/* The rows of a document: inputs token[n + 1], or targets; caller frees both      */
int64_t dataset_document(const struct dataset *, int split, int64_t i, int32_t **token,
                         int32_t **target);
int64_t dataset_id_bytes(const struct dataset *, int32_t id);  /* 0 for the end     */

struct eval_result {
    double  nats, bits_per_byte, loss;
    int64_t bytes, tokens, documents;
    bool    interrupted;                    /* a signal came: nothing was measured    */
};
/* Held-out documents (the first limit_bytes of them; 0: all), each one stream from
 * fresh, several at a time in segments; the same bits for any chunking.  progress may
 * be NULL.                                                                       */
chi_status evaluate(struct model *, struct dataset *, int split, int64_t limit_bytes,
                    struct eval_result *,
                    void (*progress)(void *ctx, int64_t done, int64_t total), void *ctx)
                    CHI_MUST_CHECK;

#endif
