/* dataset.h - documents as tokens, or examples that a task makes (examples.h): packed for
 * training, whole for evaluation.                                                 */
#ifndef DATASET_H
#define DATASET_H

#include "model.h"

struct dataset;
/* Opens the spec's task and, for documents, its tokenizer; tokens are int32, ends
 * included.                                                                      */
chi_status dataset_open(struct dataset **, const struct spec *) CHI_MUST_CHECK;
void dataset_close(struct dataset *);
uint64_t dataset_hash(const struct dataset *);    /* of names, splits and bytes    */
uint64_t dataset_place_hash(const struct dataset *);   /* and of ids: what a cursor counts */
struct vocabulary dataset_vocabulary(const struct dataset *);   /* of tokens.h; 0: of examples */
chi_status dataset_can_train(const struct dataset *) CHI_MUST_CHECK;  /* or only measure  */
bool    dataset_makes_examples(const struct dataset *);  /* which count as documents */
/* Documents of this split are choices of questions: only their own tokens are scored */
bool    dataset_has_choices(const struct dataset *, int split);
void    dataset_choice(const struct dataset *, int64_t i, struct chi_choice *);   /* held out */
const char *dataset_name(const struct dataset *, int64_t i);          /* of held-out ones  */
int64_t dataset_documents(const struct dataset *, int split);    /* 0: none, or endless */
int64_t dataset_bytes(const struct dataset *, int split);
int64_t dataset_tokens(const struct dataset *, int split);   /* rows: n + 1 a document */

struct cursor { int64_t epoch, position; };       /* rows used in the epoch's order */

/* The sequences of one optimizer step, seq_len rows each; the cursor moves.  Segments
 * of sequence s are seg[first_seg[s]] .. seg[first_seg[s+1]-1]; row r of sequence s is
 * token[s * seq_len + r].                                                        */
struct batch {
    int64_t  n_seq, seq_len, n_seg;
    int64_t  rows, scored;              /* of segments; of these with a target       */
    int64_t  bytes;                     /* of the scored targets                   */
    int32_t *token, *target;            /* [n_seq * seq_len]; behind a sequence's last
                                           segment -1                              */
    int64_t *first_seg;                 /* [n_seq + 1]                             */
    struct model_segment *seg;          /* tokens point into token; pos 0, fresh   */
};
chi_status dataset_batch(struct dataset *, struct cursor *, struct batch *) CHI_MUST_CHECK;
void batch_free(struct batch *);
/* No n_seq sequences in a row have more segments than this                        */
int64_t dataset_max_segs(const struct dataset *, int64_t n_seq, int64_t seq_len);
/* A document with n tokens, whose n + 1 rows are all scored, or an example           */
struct document { int64_t rows; int32_t *token, *target, *slice; };   /* slice: NULL or */
chi_status dataset_document(const struct dataset *, int split, int64_t i, struct document *)
                            CHI_MUST_CHECK;
void document_free(struct document *);
int64_t dataset_id_bytes(const struct dataset *, int32_t id);  /* 0 for the end     */

/* Right: the target's logit is the largest, the first of equals; of questions: the right
 * choice is the likeliest, and (right_norm) so per byte; then scored are questions.   */
enum { EVAL_SLICES = 64, EVAL_METERS = 16 };
struct eval_slice { const char *name; int64_t scored, right, right_norm; };   /* name: the task's */
struct eval_result {
    double  nats, bits_per_byte, loss;      /* loss: nats a scored row; 0 bytes: no bpb */
    int64_t bytes, tokens, documents;
    bool    examples;                       /* then accuracy is there, and no bytes   */
    int64_t scored, right, n_slice;
    struct eval_slice slice[EVAL_SLICES];
    int64_t questions, right_norm;          /* 0: no choices                          */
    double *choice_nats;                    /* [documents] of choices, or NULL; eval_free() */
    int64_t n_meter;                        /* of plugins, over the whole measurement */
    struct { const char *name; double value; } meter[EVAL_METERS];
    bool    interrupted;                    /* a signal came: nothing was measured    */
};
void    eval_free(struct eval_result *);
double  eval_accuracy(int64_t right, int64_t scored);           /* 0 of 0: 0          */
int64_t dataset_slices(const struct dataset *, struct eval_slice slice[EVAL_SLICES]);
/* Held-out documents (the first limit_bytes of them; 0: all) or examples, each one stream
 * from fresh, several at a time in segments; the same bits for any chunking.  progress may
 * be NULL.                                                                       */
chi_status evaluate(struct model *, struct dataset *, int split, int64_t limit_bytes,
                    struct eval_result *,
                    void (*progress)(void *ctx, int64_t done, int64_t total), void *ctx)
                    CHI_MUST_CHECK;

#endif
