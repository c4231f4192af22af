/* generate.h - prompts in, continuations out: many streams through one model.
 *
 * Streams run in batches: all prompts of a batch are read packed, then every step feeds
 * one token of each that is not done.  No stream sees another, and its random numbers
 * hang on its own id and position, so a batch says what each would have said alone. */
#ifndef GENERATE_H
#define GENERATE_H

#include "head.h"
#include "sample.h"
#include "session.h"
#include "stream.h"
#include "tokens.h"

enum { GEN_RUNNING, GEN_END, GEN_STOP, GEN_LENGTH, GEN_INTERRUPTED };
extern const char *const generate_end_names[];          /* "end", "stop", ...      */

/* Text, or, where there is no tokenizer, ids                                      */
struct prompt { unsigned char *text; int64_t n; int32_t *id; int64_t n_id; };

struct completion {                     /* one stream on its way                   */
    struct stream  *stream;
    struct text_out out;                /* of text, or of ids with a blank between */
    int64_t         drawn;              /* tokens                                  */
    int             end;                /* GEN_...                                 */
    chi_status    (*flush)(void *ctx);  /* after every token, or NULL              */
};

struct generator {
    const struct spec *spec;
    struct model   *model;
    struct tokens  *tokens;             /* NULL: prompts and output are ids        */
    int32_t         end;                /* the token that ends a text; -1: none    */
    const struct shortlist *allow;      /* nothing else is drawn; NULL: all        */
    int32_t        *recent;             /* [window], as places in allow            */
    struct sampler  sampler;
    struct sample_options options;
    int64_t         window, max_new, batch, stream_bytes;
    bool            ignore_end;
    bool          (*interrupted)(void);
    unsigned char  *streams;            /* [batch] of stream_bytes                 */
    float          *hidden, *logits;
    int64_t         read, prefill_rows, decode_rows;    /* so far; read: tokens of prompts, whose last
                                           one is a row of the first decode step   */
    double          prefill_s, decode_s, first_at;      /* now_s() of the first token */
};

struct generator_options {
    int64_t batch;                      /* streams at a time, at most model_max_segs() */
    bool    ids;                        /* no tokenizer                            */
    const struct shortlist *allow;      /* or NULL; must outlive the generator     */
};
/* Takes options and sizes from the spec.  The model and spec must outlive the generator. */
chi_status generator_open(struct generator *, struct model *, const struct generator_options *) CHI_MUST_CHECK;
void generator_close(struct generator *);
/* An empty stream in slot i of the batch, named id to the random numbers         */
struct stream *generator_stream(struct generator *, int64_t i, uint64_t id);
/* Which model a session belongs to; key->text is malloc'ed                       */
chi_status generator_key(struct generator *, struct session_key *) CHI_MUST_CHECK;
/* Feeds prompt[i] to c[i].stream; a stream that is empty begins with END.  Interrupted:
 * CHI_EREFUSED.  Ids go in as they are.                                           */
chi_status generate_read(struct generator *, struct completion *c, const struct prompt *,
                         int64_t n) CHI_MUST_CHECK;
/* Draws tokens until every stream is done; what comes goes to each one's out      */
chi_status generate_write(struct generator *, struct completion *c, int64_t n) CHI_MUST_CHECK;

#endif
