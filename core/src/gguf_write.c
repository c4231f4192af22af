/* gguf_write.c - the writer of GGUF files; see gguf.h, and gguf.c for the bytes.                              */
#include "gguf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "fs.h"

enum { GGUF_V3 = 3, ALIGNMENT = 64, U32 = 4, I32 = 5, F32 = 6, BOOL = 7, TEXT = 8, ARRAY = 9, NAME_LONGEST = 63,
       DIGITS = 16 };

struct gguf_writer {
    FILE   *file, *pairs, *tensors;         /* the two parts of the header, as text in memory                   */
    char   *pair_text, *tensor_text;
    size_t  pair_len, tensor_len;
    uint64_t n_pair, n_tensor;
    int64_t seal;                           /* of the pairs: where the digits stand                            */
    int64_t total, written;                 /* bytes of data, with their zeros                                 */
    chi_status status;                      /* the first misuse                                                */
};

static void number(FILE *f, int n, uint64_t v)
{
    for (int i = 0; i < n; i++) putc((int)(v >> (8 * i) & 255), f);
}

static void text(FILE *f, const char *s)
{
    size_t n = strlen(s);
    number(f, 8, n);
    fwrite(s, 1, n, f);
}

struct gguf_writer *gguf_create(FILE *file)
{
    struct gguf_writer *w = xcalloc(1, sizeof *w);
    w->file = file;
    w->pairs = open_memstream(&w->pair_text, &w->pair_len);
    w->tensors = open_memstream(&w->tensor_text, &w->tensor_len);
    if (!w->pairs || !w->tensors) w->status = fail(CHI_ENOMEM, "no memory for the header of a GGUF file");
    gguf_put_u32(w, "general.alignment", ALIGNMENT);
    gguf_put_text(w, GGUF_SEAL, "0000000000000000");
    if (w->status == CHI_OK) w->seal = ftell(w->pairs) - DIGITS;
    return w;
}

/* A pair whose value follows; false: after a misuse                                                           */
static bool begin_pair(struct gguf_writer *w, const char *key, int type)
{
    if (w->status != CHI_OK) return false;
    text(w->pairs, key);
    number(w->pairs, 4, (uint64_t)type);
    w->n_pair++;
    return true;
}

void gguf_put_text(struct gguf_writer *w, const char *key, const char *value)
{
    if (begin_pair(w, key, TEXT)) text(w->pairs, value);
}

void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t value)
{
    if (begin_pair(w, key, U32)) number(w->pairs, 4, value);
}

void gguf_put_f32(struct gguf_writer *w, const char *key, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (begin_pair(w, key, F32)) number(w->pairs, 4, bits);
}

void gguf_put_bool(struct gguf_writer *w, const char *key, bool value)
{
    if (begin_pair(w, key, BOOL)) number(w->pairs, 1, value);
}

static bool begin_array(struct gguf_writer *w, const char *key, int type, int64_t n)
{
    if (!begin_pair(w, key, ARRAY)) return false;
    number(w->pairs, 4, (uint64_t)type);
    number(w->pairs, 8, (uint64_t)n);
    return true;
}

void gguf_put_texts(struct gguf_writer *w, const char *key, int64_t n, char *const *texts)
{
    if (!begin_array(w, key, TEXT, n)) return;
    for (int64_t i = 0; i < n; i++) text(w->pairs, texts[i]);
}

void gguf_put_i32s(struct gguf_writer *w, const char *key, int64_t n, const int32_t *value)
{
    if (!begin_array(w, key, I32, n)) return;
    for (int64_t i = 0; i < n; i++) number(w->pairs, 4, (uint32_t)value[i]);
}

void gguf_add(struct gguf_writer *w, const char *name, int type, int n_dim, const int64_t *dim)
{
    int64_t n = 1;
    if (w->status != CHI_OK) return;
    for (int i = 0; i < n_dim; i++)
        if (__builtin_mul_overflow(n, dim[i], &n)) n = 0;
    int64_t bytes = gguf_bytes(type, n);
    if (!bytes || n_dim < 1 || n_dim > 4 || __builtin_add_overflow(w->total, round_up(bytes, ALIGNMENT), &n)) {
        w->status = fail(CHI_EBUG, "tensor %s: type %d or its %d dimensions cannot be stored", name, type, n_dim);
        return;
    }
    if (strlen(name) > NAME_LONGEST) {
        w->status = fail(CHI_ECONF, "the name of tensor %s has %zu bytes, GGUF allows %d", name, strlen(name),
                         NAME_LONGEST);
        return;
    }
    text(w->tensors, name);
    number(w->tensors, 4, (uint64_t)n_dim);
    for (int i = n_dim - 1; i >= 0; i--) number(w->tensors, 8, (uint64_t)dim[i]);
    number(w->tensors, 4, (uint64_t)type);
    number(w->tensors, 8, (uint64_t)w->total);
    w->total = n;
    w->n_tensor++;
}

static chi_status put(struct gguf_writer *w, const void *bytes, size_t n)
{
    if (n && fwrite(bytes, 1, n, w->file) != n) return fs_fail("write", "a GGUF file");
    return CHI_OK;
}

chi_status gguf_begin(struct gguf_writer *w)
{
    char *head = NULL, hex[DIGITS + 1];
    size_t n = 0;
    TRY(w->status);
    FILE *f = open_memstream(&head, &n);
    if (!f || fflush(w->pairs) || fflush(w->tensors))
        return w->status = fail(CHI_ENOMEM, "no memory for the header of a GGUF file");
    fputs("GGUF", f);
    number(f, 4, GGUF_V3);
    number(f, 8, w->n_tensor);
    number(f, 8, w->n_pair);
    int64_t seal = ftell(f) + w->seal;
    fwrite(w->pair_text, 1, w->pair_len, f);
    fwrite(w->tensor_text, 1, w->tensor_len, f);
    for (int64_t at = ftell(f); at % ALIGNMENT; at++) putc(0, f);
    if (fclose(f)) w->status = fail(CHI_ENOMEM, "no memory for the header of a GGUF file");
    if (w->status == CHI_OK) {
        snprintf(hex, sizeof hex, "%016" PRIx64, xxh3(head, n));
        memcpy(head + seal, hex, DIGITS);
        w->status = put(w, head, n);
    }
    free(head);
    return w->status;
}

chi_status gguf_write_part(struct gguf_writer *w, const void *data, int64_t bytes)
{
    TRY(w->status);
    if (bytes < 0 || bytes > w->total - w->written)
        return w->status = fail(CHI_EBUG, "more data than the %lld bytes announced", (long long)w->total);
    w->written += bytes;
    return w->status = put(w, data, (size_t)bytes);
}

chi_status gguf_end_tensor(struct gguf_writer *w)
{
    static const unsigned char zeros[ALIGNMENT];
    return gguf_write_part(w, zeros, round_up(w->written, ALIGNMENT) - w->written);
}

chi_status gguf_write(struct gguf_writer *w, const void *data, int64_t bytes)
{
    TRY(gguf_write_part(w, data, bytes));
    return gguf_end_tensor(w);
}

chi_status gguf_finish(struct gguf_writer *w)
{
    chi_status s = w->status;
    if (s == CHI_OK && w->written != w->total)
        s = fail(CHI_EBUG, "%lld bytes of tensor data were announced, %lld written", (long long)w->total,
                 (long long)w->written);
    if (s == CHI_OK && fflush(w->file)) s = fs_fail("write", "a GGUF file");
    if (w->pairs) fclose(w->pairs);
    if (w->tensors) fclose(w->tensors);
    free(w->pair_text);
    free(w->tensor_text);
    free(w);
    return s;
}
