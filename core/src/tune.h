/* tune.h - which linear kernel serves a weight matrix, and the times that decide it.
 *
 * Every linear kernel of an encoding gives the same bits (kernel.h), so the choice is one of
 * speed alone: by the ranks of the backends, or by times that `chimera kernels CONF --tune`
 * measured on this CPU.  Times lie in a file of the cache folder that belongs to one CPU and
 * to these very plugin files; opening a model only reads it.                          */
#ifndef TUNE_H
#define TUNE_H

#include "linear.h"

enum { TUNE_ROWS = 32, CONTENDERS_MAX = 16, TUNE_NAME = 48 };

/* Microseconds of calls with one row and with TUNE_ROWS of them                        */
struct tune_time {
    char    encoding[TUNE_NAME], backend[TUNE_NAME];
    int64_t d_out, d_in, group, threads;
    bool    memory;                         /* the matrix came from there, not from a cache */
    double  one, many;
};

struct contender {
    const char *backend;                    /* "portable": the encoding's own          */
    int32_t     rank;
    const struct chi_linear_kernel *kernel;
    const struct tune_time *time;           /* with pool_size() threads, of this place, or NULL */
};
/* The first of a backend's kernels for such matrices; group 0: for any of the encoding's; or NULL     */
const struct chi_linear_kernel *kernel_of(const struct chi_backend_ops *, const char *encoding, int64_t group);
/* A group that some backend's kernel of this encoding is made for; 0: there is none, or any will do   */
int64_t fast_group(const struct spec *, const char *encoding);
/* The kernels that can serve such a matrix, in the order of the backends, portable last: at
 * least one.  memory: the times are those of a matrix that comes from there.  They are the spec's
 * and live as long                                                                     */
int contenders(const struct spec *, const struct chi_component *encoding, int64_t d_out, int64_t d_in,
               int64_t group, bool memory, struct contender out[CONTENDERS_MAX]);
/* Does a step over so many bytes of weights find none of them in the cache?             */
bool tune_from_memory(int64_t weights);

/* Indices of the kernel for one row and of that for more, which are the same unless both read
 * the encoding's own bytes; tuned: times decided, else the order                       */
struct choice { int one, many; bool tuned; };
struct choice choose_kernels(const struct contender *, int n);

/* ---- tune.c: the times on disk -------------------------------------------------------- */
struct tune;
/* The times for this CPU and the spec's backends; NULL: there is no file, or it is damaged (a
 * warning names it)                                                                    */
struct tune *tune_read(const struct spec *);
void tune_close(struct tune *);
const struct tune_time *tune_find(const struct tune *, const struct tune_time *like);
/* Puts a time in the place of the one of the same matrix, backend, threads, and place; *t NULL: the first */
void tune_put(struct tune **, const struct tune_time *);
/* Writes the file whole or not at all; *path (caller frees) says where                 */
chi_status tune_write(const struct tune *, const struct spec *, char **path) CHI_MUST_CHECK;

/* ---- tune_time.c: measuring ------------------------------------------------------------ */
/* Times of n kernels with a matrix of the shape and the rule of l, drawn at random, in this
 * encoding.  others: limit_bytes() that are read before each call, so that the matrix comes from
 * memory; NULL: it may stay in the cache.  time[n] is filled whole.  CHI_ENOMEM: the matrix has no room */
chi_status tune_measure(const struct chi_linear *l, const struct spec *, const struct chi_component *encoding,
                        const struct contender *, int n, const uint8_t *others, struct tune_time *time) CHI_MUST_CHECK;
/* Can this encoding hold what the quantizer of l makes?  By its class, sizes, and 16 random rows */
bool tune_holds(const struct chi_linear *l, const struct chi_component *encoding);

#endif
