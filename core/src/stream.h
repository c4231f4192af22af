/* stream.h - one text in the making: a flat block that can be copied, moved and saved.
 *
 * Tokens h_0 .. h_pos, of which h_0 .. h_{pos-1} have gone into the state and h_pos is
 * the next to go: a step feeds it and draws h_{pos+1}.  The block holds no pointers and
 * does not grow: what it remembers of the past is the state and the last tokens that
 * the repetition penalty looks at.  Forking is stream_copy().                    */
#ifndef STREAM_H
#define STREAM_H

#include "head.h"
#include "text_out.h"

struct stream {
    int64_t  state_bytes, window;       /* sizes of what follows the header        */
    int64_t  pos;                       /* tokens in the state                     */
    int64_t  total;                     /* tokens so far: pos + 1, or 0 at first   */
    int64_t  kept;                      /* tokens that the ring holds              */
    int32_t  next;                      /* h_pos; -1: none yet                     */
    int32_t  n_waiting;
    uint64_t id;                        /* names the stream to the random numbers  */
    unsigned char waiting[TEXT_WAITING];/* output that was not yet whole           */
};

/* Bytes of a stream; blocks are 64-byte aligned                                  */
int64_t stream_bytes(int64_t state_bytes, int64_t window);
/* Makes an empty stream of a block                                               */
struct stream *stream_init(void *block, int64_t state_bytes, int64_t window, uint64_t id);
void stream_copy(struct stream *to, const struct stream *from);   /* of equal sizes */
unsigned char *stream_state(const struct stream *);
/* int32_t [window]; token i of the stream stands at i % window                   */
int32_t *stream_ring(const struct stream *);

/* A text to absorb                                                               */
struct stream_text { const int32_t *token; int64_t n; };

/* Appends text[i] to s[i], all of them together: rows of several streams are packed
 * into calls of at most model_max_rows().  The last token of each becomes its next.
 * stop (may be NULL) is asked between calls; if it says so, CHI_EREFUSED and streams in
 * between.  hidden[model_max_rows, d] is work space.  *rows counts what went in.   */
chi_status streams_feed(struct model *, struct stream *const *s, const struct stream_text *text,
                        int64_t n, float *hidden, bool (*stop)(void), int64_t *rows) CHI_MUST_CHECK;
/* Feeds the next token of each: logits[n, vocab] say what follows, or logits[n, n of the
 * shortlist] if it is not NULL.  n is at most model_max_segs() and model_max_rows().
 * stream_take() must come before the next step.                                  */
chi_status streams_step(struct model *, struct stream *const *s, int64_t n, float *hidden,
                        const struct shortlist *, float *logits) CHI_MUST_CHECK;
/* The token that was drawn becomes the next one                                  */
void stream_take(struct stream *, int32_t token);

#endif
