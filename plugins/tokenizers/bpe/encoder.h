/* encoder.h - what the three tokenizers of this plugin have in common: a vocabulary, steps that
 * cut a text into pieces, and special tokens, which stand beside the vocabulary.               */
#ifndef BPE_ENCODER_H
#define BPE_ENCODER_H

#include <chimera/data.h>

#include "merge.h"
#include "split.h"

enum { STEPS_MAX = 8, PIECE_MAX = 1 << 30 };

/* What a step does with the pieces of the one before                                          */
enum { STEP_RULE, STEP_REGEX, STEP_DIGITS, STEP_TEXT };
/* What becomes of a match: a piece; part of the piece before it or behind it; part of a piece
 * with its neighbours that match                                                              */
enum { CUT_ISOLATED, CUT_WITH_PREVIOUS, CUT_WITH_NEXT, CUT_CONTIGUOUS };
struct step {
    int kind, rule, cut;
    const char *text; int64_t n;            /* STEP_TEXT, and the expression of STEP_REGEX    */
    const void *code;                       /* STEP_REGEX, see regex.h                        */
};

struct special {
    const char *text; int64_t n;
    int32_t id;
    bool always;                            /* in any text, not only where they are asked for */
    bool late;                              /* only in what those that are not late leave     */
};

struct encoder {
    struct vocabulary v;
    const unsigned char *class_of;
    struct step step[STEPS_MAX]; int64_t n_step;
    struct special *special; int64_t n_special;     /* the longest of those that begin alike first */
    bool    begins[2][256];                 /* a special token that is looked for; [1]: late  */
    bool    recognise;                      /* those that are not there always                */
    int64_t ids;                            /* 0 .. ids - 1                                   */
    int32_t end;
};

/* Classes, one step of a rule and the special tokens' order; end is never looked for.  [setup] */
chi_status bpe_encoder_ready(const struct chi_host *, struct encoder *) CHI_MUST_CHECK;
int64_t bpe_encode(const struct encoder *, const unsigned char *text, int64_t n, int32_t *ids, int64_t max,
                   struct chi_scratch *);

/* As members of chi_tokenizer_ops; self is a struct encoder                                   */
int64_t bpe_ids(const void *self);
int32_t bpe_end(const void *self);
int64_t bpe_encode_plain(const void *self, const unsigned char *text, int64_t n, int32_t *ids, int64_t max);
int64_t bpe_encode_in(const void *self, const unsigned char *text, int64_t n, int32_t *ids, int64_t max,
                      struct chi_scratch *);
int64_t bpe_decode(const void *self, int32_t id, unsigned char *text, int64_t max);
uint64_t bpe_rules(const void *self);
/* For text without special tokens alone                                                      */
int64_t bpe_first_piece(const void *self, const unsigned char *text, int64_t n);

/* Lines "base64 rank" of a file, ranks 0, 1, ... in order, as the vocabulary's tokens.  [setup] */
chi_status bpe_read_ranks(const struct chi_host *, const char *path, struct vocabulary *) CHI_MUST_CHECK;
/* The 256 bytes, each of which is its own id.  [setup]                                         */
chi_status bpe_only_bytes(const struct chi_host *, struct vocabulary *) CHI_MUST_CHECK;
/* The bytes of one file; they stay until the instance is closed.  [setup]                      */
chi_status bpe_read_file(const struct chi_host *, const char *path, const unsigned char **bytes, int64_t *n)
           CHI_MUST_CHECK;

extern const struct chi_component bpe_o200k, bpe_huggingface;

#endif
