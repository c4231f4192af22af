/* profile.h - where the time goes: spans of the calling thread, nested.
 *
 *     span("layers.0.mixer", "gated_deltanet", "forward");
 *     ... the call ...
 *     span_end();
 *
 * Off (always but for `chimera bench --profile`) a span costs one test of a flag.  Names
 * live as long as the recording.  Only the thread that calls the model opens spans; what
 * the pool's workers do for it is inside of them.                                    */
#ifndef PROFILE_H
#define PROFILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct profile_span {
    const char *name, *component, *op;
    int64_t begin, end;                 /* ns since profile_start()                   */
    int64_t inner;                      /* ns that spans within it took               */
    double  bytes, flops;               /* that it is counted to move and to do       */
};

extern bool profile_on;
extern bool profile_products;          /* a span for each call of linears(), too      */
void profile_begin(const char *name, const char *component, const char *op);
void profile_end(void);
/* Adds to what the innermost open span is counted to do                              */
void profile_add(double bytes, double flops);

static inline void span(const char *name, const char *component, const char *op)
{
    if (profile_on) profile_begin(name, component, op);
}
static inline void span_work(double bytes, double flops)
{
    if (profile_on) profile_add(bytes, flops);
}
static inline void span_end(void)
{
    if (profile_on) profile_end();
}

void profile_start(void);               /* on; forgets spans; the clock goes on       */
void profile_stop(void);                /* off; the spans stay until profile_start()  */
/* Finished spans by their beginnings                                                 */
int64_t profile_spans(const struct profile_span **);
void profile_drop(void);
/* Chrome's trace event format, which about:tracing and Perfetto read: a beginning, then the
 * spans as "X" events in microseconds on a track of their own, then an end             */
void profile_write_begin(FILE *);
void profile_write(FILE *, int track, const char *name);
void profile_write_end(FILE *);

#endif
