/* gguf.h - reader and writer of GGUF files, version 3, for the tensor types that we exchange.
 *
 * Reading maps the file and checks everything before the first tensor is handed out, as safetensors.h does:
 * counts against the file's size, texts, types, shapes against offsets with checked arithmetic, exact coverage
 * of the data.  Shapes are in our order, the outermost dimension first; in the file the innermost is first.  */
#ifndef GGUF_H
#define GGUF_H

#include <chimera/base.h>
#include <stdio.h>

enum { GGUF_F32 = 0, GGUF_F16 = 1, GGUF_TQ1_0 = 34, GGUF_TQ2_0 = 35 };      /* as in ggml.h                    */

struct gguf_tensor {
    const char *name;
    int         type, n_dim;                /* 1..4 dimensions                                                */
    int64_t     dim[4];
    int64_t     n, bytes;
    const unsigned char *data;              /* at a multiple of general.alignment in the file                 */
};

struct gguf_file;
chi_status gguf_open(struct gguf_file **, const char *path) CHI_MUST_CHECK;
/* The same from n bytes in memory, which stay the caller's and must outlive it                               */
chi_status gguf_open_bytes(struct gguf_file **, const char *name, const void *bytes, int64_t n) CHI_MUST_CHECK;
void gguf_close(struct gguf_file *);
const char *gguf_path(const struct gguf_file *);
const struct gguf_tensor *gguf_find(const struct gguf_file *, const char *name);    /* or NULL                */
const struct gguf_tensor *gguf_at(const struct gguf_file *, int64_t i);             /* or NULL                */
const char *gguf_text(const struct gguf_file *, const char *key);                   /* or NULL                */
/* Bytes of n values of a type; 0: n is no whole number of blocks, or nobody knows the type, or it overflows   */
int64_t gguf_bytes(int type, int64_t n);
const char *gguf_type_name(int type);

/* A sealed file has the key "chimera.header_xxh3", whose text is the XXH3-64 of all bytes before the data, with
 * 0s in its own place.                                                                                       */
chi_status gguf_check_seal(const struct gguf_file *) CHI_MUST_CHECK;        /* CHI_EDATA: none, or a wrong one */
#define GGUF_SEAL "chimera.header_xxh3"

/* Writing: keys, then all tensors, then begin, then the data of each in the same order; finish frees.        */
struct gguf_writer;
struct gguf_writer *gguf_create(FILE *);                                    /* the caller's file; sealed      */
void gguf_put_text(struct gguf_writer *, const char *key, const char *text);
void gguf_put_u32(struct gguf_writer *, const char *key, uint32_t);
void gguf_put_f32(struct gguf_writer *, const char *key, float);
void gguf_put_bool(struct gguf_writer *, const char *key, bool);
void gguf_put_texts(struct gguf_writer *, const char *key, int64_t n, char *const *texts);
void gguf_put_i32s(struct gguf_writer *, const char *key, int64_t n, const int32_t *);
void gguf_add(struct gguf_writer *, const char *name, int type, int n_dim, const int64_t *dim);
chi_status gguf_begin(struct gguf_writer *) CHI_MUST_CHECK;
chi_status gguf_write(struct gguf_writer *, const void *data, int64_t bytes) CHI_MUST_CHECK;  /* a whole tensor */
chi_status gguf_finish(struct gguf_writer *) CHI_MUST_CHECK;

#endif
