/* safetensors.h - the one reader and writer of tensor files.
 *
 * u64 header length, JSON header, data without holes.  Reading maps the file and
 * checks everything before the first tensor is handed out: header length, JSON,
 * dtypes, shapes against offsets with checked arithmetic, exact coverage of the
 * data.                                                                        */
#ifndef SAFETENSORS_H
#define SAFETENSORS_H

#include <chimera/base.h>
#include <stdio.h>

enum { ST_F64 = 1, ST_F32, ST_F16, ST_BF16, ST_I64, ST_I32, ST_I16, ST_I8, ST_U8, ST_BOOL };

struct st_tensor {
    const char *name;
    int         dtype;
    int         n_dim;
    int64_t     dim[8];
    int64_t     n;                      /* product of dims; 1 for a scalar       */
    const void *data;                   /* element-aligned as in the file        */
    int64_t     bytes;
};

struct st_file;
chi_status st_open(struct st_file **, const char *path) CHI_MUST_CHECK;
/* The same from n bytes in memory (4-byte aligned), which stay the caller's and must outlive it  */
chi_status st_open_bytes(struct st_file **, const char *name, const void *bytes, int64_t n) CHI_MUST_CHECK;
void st_close(struct st_file *);
const char *st_path(const struct st_file *);
/* Of the file as it was when it was opened; NULL: it lies in memory            */
struct stat;
const struct stat *st_identity(const struct st_file *);
const struct st_tensor *st_find(const struct st_file *, const char *name);  /* or NULL */
const struct st_tensor *st_at(const struct st_file *, int64_t i);           /* or NULL */
const char *st_meta(const struct st_file *, const char *key);               /* or NULL */
/* The values of an F32, F16 or BF16 tensor as floats: its own data, or a wider copy that *own then holds
 * (mem_free() it; NULL: none).  Another dtype, or no memory: fails                 */
chi_status st_floats(const struct st_file *, const struct st_tensor *, const float **, float **own) CHI_MUST_CHECK;

/* A sealed file begins with {"__metadata__":{"header_xxh3":"HEX", and HEX is the XXH3-64 of the header and
 * its length, with 0s in the place of HEX.  Where it stands it is checked before the JSON is read.        */
bool st_sealed(const struct st_file *);
/* Writes HEX into the bytes of a file that begins so; false: it does not           */
bool st_seal(unsigned char *bytes, int64_t n);

/* Writing: announce all tensors, then write their data in the same order.      */
struct st_writer;
struct st_writer *st_create(FILE *);                    /* the caller's file; NULL: st_header() */
void st_put_meta(struct st_writer *, const char *key, const char *value);
void st_want_seal(struct st_writer *);                  /* before all else; data then at 4096 */
void st_add(struct st_writer *, const char *name, int dtype, int n_dim, const int64_t *dim);
chi_status st_begin(struct st_writer *) CHI_MUST_CHECK; /* writes the header      */
chi_status st_write(struct st_writer *, const void *data, int64_t bytes) CHI_MUST_CHECK;
chi_status st_finish(struct st_writer *) CHI_MUST_CHECK;/* checks totals, frees   */
/* Instead of all that follows the announcements, and without a file: the header, *n bytes with its length
 * (free() them), for one who writes data where he wants.  Frees the writer           */
chi_status st_header(struct st_writer *, unsigned char **, int64_t *n) CHI_MUST_CHECK;
int64_t st_dtype_bytes(int dtype);
const char *st_dtype_name(int dtype);

#endif
