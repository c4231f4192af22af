/* kinds.h - what the checks of components other than layers share: options, a host, guarded blocks
 * by the pile, and the plain definition of a product with an encoded matrix.                 */
#ifndef KINDS_H
#define KINDS_H

#include <chimera/format.h>

#include "config.h"
#include "guard.h"
#include "validate.h"

/* ---- a component with options ------------------------------------------------------------ */

enum { DRAWN_TEXT = 1024 };
struct bench_part {
    struct chi_host *host;
    struct config *config;
    void *conf;
    char  options[DRAWN_TEXT];          /* "beta1 = 0.5, eps = 0.1" for messages; "defaults" */
};
/* Case 0 has the defaults, later ones draw options; fixed is "name = value\n" lines that stay, or
 * NULL.  False: the trial has failed.  Options that the component refuses are drawn again.    */
bool part_bench_open(struct bench_part *, struct trial *, int64_t i, const char *fixed);
void part_bench_close(struct bench_part *);

/* ---- guarded blocks ----------------------------------------------------------------------- */

struct pile { void *p[64]; int n; };
/* Filled with nonsense; element-aligned at the end of its pages, or at their start            */
void *pile_take(struct pile *, int64_t bytes, int64_t align, bool at_end, const char *name);
/* A copy that may only be read                                                                */
const void *pile_copy(struct pile *, const void *from, int64_t bytes, int64_t align, bool at_end, const char *name);
void  pile_drop(struct pile *);
/* Runs f(arg), which calls operation OP of the component; a fault, or a write beside a block of any
 * pile, fails the trial                                                                        */
bool  call_guarded(struct trial *, const char *op, const char *with, void (*f)(void *), void *arg);

bool same_floats(const float *a, const float *b, int64_t n);        /* bits, but any NaN is any   */
/* Kinds of numbers: 0 about 1; 1 wide (e^x over its whole range); 2 denormal; 3 special values   */
void draw_floats(struct trial *, float *x, int64_t n, int kind);

/* ---- matrices ------------------------------------------------------------------------------ */

/* A matrix of a value class with activations for it                                            */
struct matrix {
    const char *values;                 /* the class                                           */
    int64_t rows, cols, group;
    bool    integer;
    int8_t *q;                          /* [rows, cols], NULL for float classes                 */
    float  *scale;                      /* [rows, ceil(cols / group)]                           */
};
enum { EXTREME_NONE, EXTREME_ONES, EXTREME_AGREE, EXTREME_DISAGREE, EXTREMES };
/* False: a class that this program does not know                                               */
bool matrix_draw(struct matrix *, struct trial *, const char *values, int64_t rows, int64_t cols, int64_t group,
                 int extreme);
/* Ways to turn a matrix into one that special encodings hold: bit 0, one scale a row; bits 1 and 2,
 * so many of any 4 neighbours are not 0 (0: as drawn)                                            */
enum { WAY_ANY, WAYS = 8 };
void matrix_turn(struct matrix *, int way);
/* A drawn matrix, turned in the first way that the encoding holds; false: bytes() is 0, or none   */
bool matrix_draw_held(struct matrix *, struct trial *, const struct chi_encoding_ops *, int64_t rows, int64_t cols,
                      int64_t group, int extreme);
bool matrix_held(const struct chi_encoding_ops *, const struct matrix *);
void matrix_drop(struct matrix *);
/* Groups to try with so many columns; returns how many                                          */
int  matrix_groups(const char *values, int64_t cols, int64_t group[4]);

struct acts {
    struct chi_act act;                 /* points into the arrays                              */
    float *x, *step;
    int8_t *q;
    int16_t *sum;
};
void acts_draw(struct acts *, struct trial *, int64_t rows, int64_t d_in, int extreme);
void acts_drop(struct acts *);
/* Each array in a guarded block of its own, without those that such a kernel does not read       */
struct chi_act acts_guarded(struct pile *, const struct acts *, bool integer, bool at_end);
/* y[r, o] as kernel.h defines it, from numbers, not from bytes                                  */
float product_of(const struct matrix *, const struct chi_act *, int64_t r, int64_t o);

#endif
