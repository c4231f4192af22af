/* text_out.h - bytes of tokens in, whole characters out, stop strings cut off.
 *
 * Tokens may end inside a character or inside a stop string.  Bytes that could still
 * become a stop string, and the start of a character, wait; everything else goes out
 * at once.  What comes out is valid UTF-8 whatever comes in: each maximal part of an
 * ill-formed sequence becomes U+FFFD (Unicode 15, 3.9, "substitution of maximal
 * subparts"), and so does a character that is cut off at the end.                */
#ifndef TEXT_OUT_H
#define TEXT_OUT_H

#include <chimera/base.h>

enum { STOP_MAX = 256 };                /* bytes of a stop string                  */

typedef chi_status text_sink(void *ctx, const char *bytes, int64_t n);

struct stop_string {
    const unsigned char *text;
    int32_t  n, matched;                /* matched: bytes of it that the input ends in */
    int32_t  border[STOP_MAX];          /* longest proper border of text[0..i]     */
};

struct text_out {
    text_sink *sink;
    void      *ctx;
    struct stop_string *stop;
    int64_t    n_stop;
    bool       stopped;                 /* a stop string came: put() ignores the rest */
    int32_t    n_held, n_part, need;
    unsigned char held[STOP_MAX];       /* might become a stop string              */
    unsigned char part[4];              /* start of a character of need bytes      */
};

/* stop[n_stop]: texts of 1..STOP_MAX bytes that outlive t; longer or empty: CHI_ECONF */
chi_status text_out_open(struct text_out *t, const char *const *stop, int64_t n_stop,
                         text_sink *, void *ctx) CHI_MUST_CHECK;
void text_out_close(struct text_out *);
chi_status text_out_put(struct text_out *, const unsigned char *, int64_t n) CHI_MUST_CHECK;
/* Nothing more comes: what waits goes out; then ready for another text           */
chi_status text_out_end(struct text_out *) CHI_MUST_CHECK;
/* The bytes that wait, at most TEXT_WAITING: putting them into a new text_out gives the
 * same state.  For sessions.                                                     */
enum { TEXT_WAITING = STOP_MAX + 4 };
int64_t text_out_waiting(const struct text_out *, unsigned char out[TEXT_WAITING]);

#endif
