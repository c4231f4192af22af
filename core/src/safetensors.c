/* safetensors.c - the one reader and writer of tensor files; see safetensors.h.
 *
 *     u64 little-endian n | n bytes of JSON, padded with spaces | data
 *     {"NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...,
 *      "__metadata__": {"KEY": "TEXT", ...}}
 *
 * (https://github.com/huggingface/safetensors, "Format").  Offsets count from the start
 * of the data; sorted by offset the tensors must cover it from first to last byte.  A
 * reader that checks that, with every product and sum checked for overflow, can hand
 * out pointers into the mapped file without looking again.                       */
#include "safetensors.h"
#include "core.h"
#include "fs.h"
#include "half.h"
#include "json.h"
#include "mapped.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_MAX = 100000000, DATA_ALIGN = 64, SEALED_ALIGN = 4096, SEAL_DIGITS = 16 };
static const char seal_key[] = "header_xxh3", seal_head[] = "{\"__metadata__\":{\"header_xxh3\":\"";

static const struct { const char *name; int bytes; } dtypes[] = {
    [ST_F64] = { "F64", 8 }, [ST_F32] = { "F32", 4 }, [ST_F16] = { "F16", 2 }, [ST_BF16] = { "BF16", 2 },
    [ST_I64] = { "I64", 8 }, [ST_I32] = { "I32", 4 }, [ST_I16] = { "I16", 2 }, [ST_I8] = { "I8", 1 },
    [ST_U8] = { "U8", 1 }, [ST_BOOL] = { "BOOL", 1 },
};

int64_t st_dtype_bytes(int dtype)
{
    return dtype >= ST_F64 && dtype <= ST_BOOL ? dtypes[dtype].bytes : 0;
}

const char *st_dtype_name(int dtype)
{
    return dtype >= ST_F64 && dtype <= ST_BOOL ? dtypes[dtype].name : "?";
}

static int dtype_from_name(const char *name)
{
    for (int i = ST_F64; name && i <= ST_BOOL; i++)
        if (!strcmp(dtypes[i].name, name)) return i;
    return 0;
}

/* ---- reading -------------------------------------------------------------- */

struct entry {
    struct st_tensor t;
    int64_t begin, end;
    void *copy;                         /* of data that lies unaligned in the file */
};

struct st_file {
    char   *path;
    unsigned char *map;
    int64_t bytes;                      /* of the file                             */
    int64_t data;                       /* where the data begins                   */
    bool    mapped, sealed;
    struct stat identity;               /* of a mapped one                         */
    cJSON  *header;                     /* owns names and metadata                 */
    struct entry *entry;                /* [n] in order of the data                */
    struct entry **sorted;              /* [n] by name                             */
    int64_t n;
};

void st_close(struct st_file *f)
{
    if (!f) return;
    for (int64_t i = 0; i < f->n; i++) mem_free(f->entry[i].copy);
    mem_free(f->entry);
    mem_free(f->sorted);
    cJSON_Delete(f->header);
    if (f->mapped) {
        mapped_drop(f->map);
        munmap(f->map, (size_t)f->bytes);
    }
    free(f->path);
    free(f);
}

const char *st_path(const struct st_file *f)
{
    return f->path;
}

const struct stat *st_identity(const struct st_file *f)
{
    return f->mapped ? &f->identity : NULL;
}

const struct st_tensor *st_at(const struct st_file *f, int64_t i)
{
    return i >= 0 && i < f->n ? &f->entry[i].t : NULL;
}

static int find_name(const void *key, const void *e)
{
    return strcmp(key, (*(struct entry *const *)e)->t.name);
}

const struct st_tensor *st_find(const struct st_file *f, const char *name)
{
    if (!f->n) return NULL;
    struct entry **e = bsearch(name, f->sorted, (size_t)f->n, sizeof *f->sorted, find_name);
    return e ? &(*e)->t : NULL;
}

const char *st_meta(const struct st_file *f, const char *key)
{
    return json_text(cJSON_GetObjectItemCaseSensitive(f->header, "__metadata__"), key);
}

static chi_status too_short(const struct st_file *f, int64_t n)
{
    return fail(CHI_EDATA, "%s is %lld bytes, too short for a safetensors file: copied incompletely?", f->path,
                (long long)n);
}

static chi_status map_file(struct st_file *f)
{
    TRY(mapped_open(f->path, &f->map, &f->identity));
    f->bytes = f->identity.st_size;
    f->mapped = f->map;
    return f->bytes < 8 ? too_short(f, f->bytes) : CHI_OK;
}

static uint64_t header_length(const unsigned char *bytes)
{
    uint64_t n = 0;
    for (int i = 0; i < 8; i++) n |= (uint64_t)bytes[i] << (8 * i);
    return n;
}

/* ---- the seal: XXH3 of length and header with zeros in its own place ------------- */

static bool begins_sealed(const unsigned char *bytes, int64_t n)
{
    int64_t head = sizeof seal_head - 1;
    return n > 8 + head + SEAL_DIGITS && header_length(bytes) <= (uint64_t)(n - 8)
        && header_length(bytes) > (uint64_t)(head + SEAL_DIGITS) && !memcmp(bytes + 8, seal_head, (size_t)head)
        && bytes[8 + head + SEAL_DIGITS] == '"';        /* no text behind the digits                            */
}

static chi_status seal_of(const unsigned char *bytes, char hex[SEAL_DIGITS + 1])
{
    size_t n = 8 + (size_t)header_length(bytes);
    unsigned char *copy = mem_take(n, "a header");
    if (!copy) return CHI_ENOMEM;
    memcpy(copy, bytes, n);
    memset(copy + 8 + sizeof seal_head - 1, '0', SEAL_DIGITS);
    snprintf(hex, SEAL_DIGITS + 1, "%016" PRIx64, xxh3(copy, n));
    mem_free(copy);
    return CHI_OK;
}

bool st_seal(unsigned char *bytes, int64_t n)
{
    char hex[SEAL_DIGITS + 1];
    if (!begins_sealed(bytes, n) || seal_of(bytes, hex) != CHI_OK) return false;
    memcpy(bytes + 8 + sizeof seal_head - 1, hex, SEAL_DIGITS);
    return true;
}

bool st_sealed(const struct st_file *f)
{
    return f->sealed;
}

static chi_status check_seal(struct st_file *f)
{
    char hex[SEAL_DIGITS + 1];
    if (!(f->sealed = begins_sealed(f->map, f->bytes))) return CHI_OK;
    TRY(seal_of(f->map, hex));
    const char *says = (const char *)f->map + 8 + sizeof seal_head - 1;
    if (!memcmp(says, hex, SEAL_DIGITS)) return CHI_OK;
    return fail(CHI_EDATA, "%s: its header is damaged: it gives XXH3 %s and does not say so", f->path, hex);
}

static chi_status read_header(struct st_file *f)
{
    uint64_t n = header_length(f->map);
    if (n < 2 || n > HEADER_MAX)
        return fail(CHI_EDATA, "%s: header length %llu is not 2..%d: this is no safetensors file, or it is damaged",
                    f->path, (unsigned long long)n, HEADER_MAX);
    if ((int64_t)n > f->bytes - 8)
        return fail(CHI_EDATA, "%s is %lld bytes, its header alone promises %llu: copied incompletely?",
                    f->path, (long long)f->bytes, (unsigned long long)n + 8);
    if (f->map[8] != '{')
        return fail(CHI_EDATA, "%s: the header begins with byte 0x%02x, not with '{': this is no safetensors file,"
                    " or it is damaged", f->path, f->map[8]);
    TRY(check_seal(f));
    TRY(json_parse(f->path, (const char *)f->map + 8, (int64_t)n, 3, &f->header));
    f->data = 8 + (int64_t)n;
    return CHI_OK;
}

static chi_status bad_tensor(const struct st_file *f, const char *name, const char *why)
{
    return fail(CHI_EDATA, "%s: tensor \"%s\": %s", f->path, name, why);
}

/* dims and their checked product                                                  */
static chi_status read_shape(const struct st_file *f, struct st_tensor *t, const cJSON *shape)
{
    if (!cJSON_IsArray(shape)) return bad_tensor(f, t->name, "no \"shape\" list");
    t->n = 1;
    for (const cJSON *d = shape->child; d; d = d->next) {
        if (t->n_dim == COUNT(t->dim)) return bad_tensor(f, t->name, "more than 8 dimensions");
        int64_t dim;
        if (!json_int(d, &dim))
            return bad_tensor(f, t->name, "a dimension is not an integer from 0 to 2^53 - 1");
        t->dim[t->n_dim++] = dim;
        if (__builtin_mul_overflow(t->n, dim, &t->n))
            return bad_tensor(f, t->name, "its shape overflows 64 bits");
    }
    if (__builtin_mul_overflow(t->n, st_dtype_bytes(t->dtype), &t->bytes))
        return bad_tensor(f, t->name, "its shape overflows 64 bits");
    return CHI_OK;
}

static chi_status read_tensor(const struct st_file *f, const cJSON *j, struct entry *e)
{
    struct st_tensor *t = &e->t;
    t->name = j->string;
    if (!cJSON_IsObject(j)) return bad_tensor(f, t->name, "its description is no JSON object");
    for (const cJSON *c = j->child; c; c = c->next)
        if (strcmp(c->string, "dtype") && strcmp(c->string, "shape") && strcmp(c->string, "data_offsets"))
            return fail(CHI_EDATA, "%s: tensor \"%s\" has an unknown field \"%s\"", f->path, t->name, c->string);
    const char *dtype = json_text(j, "dtype");
    if (!dtype) return bad_tensor(f, t->name, "no \"dtype\"");
    t->dtype = dtype_from_name(dtype);
    if (!t->dtype)
        return fail(CHI_EDATA,
                    "%s: tensor \"%s\" has dtype \"%s\"; known are F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL",
                    f->path, t->name, dtype);
    TRY(read_shape(f, t, cJSON_GetObjectItemCaseSensitive(j, "shape")));
    const cJSON *at = cJSON_GetObjectItemCaseSensitive(j, "data_offsets");
    if (cJSON_GetArraySize(at) != 2 || !cJSON_IsArray(at) || !json_int(at->child, &e->begin)
        || !json_int(at->child->next, &e->end) || e->end < e->begin)
        return bad_tensor(f, t->name, "\"data_offsets\" is not [begin, end] with begin <= end");
    if (e->end - e->begin != t->bytes)
        return fail(CHI_EDATA, "%s: tensor \"%s\" has %lld bytes of data, its shape and dtype %s want %lld",
                    f->path, t->name, (long long)(e->end - e->begin), dtype, (long long)t->bytes);
    return CHI_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return strcmp(x->t.name, y->t.name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct entry *const *)a)->t.name, (*(struct entry *const *)b)->t.name);
}

/* Sorted by offset, each tensor must begin where the one before it ended, and the
 * last must end with the file.                                                    */
static chi_status check_cover(const struct st_file *f)
{
    int64_t at = 0;
    for (int64_t i = 0; i < f->n; i++) {
        const struct entry *e = &f->entry[i];
        if (e->begin != at)
            return fail(CHI_EDATA, "%s: tensor \"%s\" begins at data byte %lld, the one before it ends at %lld: %s",
                        f->path, e->t.name, (long long)e->begin, (long long)at,
                        e->begin > at ? "a hole" : "they overlap");
        at = e->end;
    }
    if (at != f->bytes - f->data)
        return fail(CHI_EDATA, "%s is %lld bytes, its header promises %lld: %s", f->path,
                    (long long)f->bytes, (long long)(f->data + at),
                    at > f->bytes - f->data ? "copied incompletely?" : "something was appended");
    return CHI_OK;
}

/* Data pointers; what other programs wrote without alignment is copied once.     */
static chi_status place(struct st_file *f)
{
    for (int64_t i = 0; i < f->n; i++) {
        struct entry *e = &f->entry[i];
        const unsigned char *p = f->map + f->data + e->begin;
        e->t.data = p;
        if ((uintptr_t)p % (uintptr_t)st_dtype_bytes(e->t.dtype) == 0 || !e->t.bytes) continue;
        e->copy = mem_take((size_t)e->t.bytes, f->path);
        if (!e->copy) return CHI_ENOMEM;
        e->t.data = memcpy(e->copy, p, (size_t)e->t.bytes);
    }
    return CHI_OK;
}

static chi_status check_meta(const struct st_file *f, const cJSON *meta)
{
    if (!cJSON_IsObject(meta)) return fail(CHI_EDATA, "%s: __metadata__ is no JSON object", f->path);
    for (const cJSON *c = meta->child; c; c = c->next)
        if (!cJSON_IsString(c))
            return fail(CHI_EDATA, "%s: __metadata__ \"%s\" is no string", f->path, c->string);
    return CHI_OK;
}

static chi_status read_tensors(struct st_file *f)
{
    int64_t room = max_i64(1, cJSON_GetArraySize(f->header));
    f->entry = mem_take((size_t)room * sizeof *f->entry, f->path);
    f->sorted = mem_take((size_t)room * sizeof(void *), f->path);
    if (!f->entry || !f->sorted) return CHI_ENOMEM;
    for (const cJSON *c = f->header->child; c; c = c->next) {
        if (!strcmp(c->string, "__metadata__")) TRY(check_meta(f, c));
        else {
            TRY(read_tensor(f, c, &f->entry[f->n]));
            f->n++;
        }
    }
    qsort(f->entry, (size_t)f->n, sizeof *f->entry, by_offset);
    for (int64_t i = 0; i < f->n; i++) f->sorted[i] = &f->entry[i];
    qsort(f->sorted, (size_t)f->n, sizeof *f->sorted, by_name);
    TRY(check_cover(f));
    return place(f);
}

/* What is mapped, or lies in memory, becomes a file, or goes                      */
static chi_status read_all(struct st_file **out, struct st_file *f, chi_status s)
{
    if (s == CHI_OK) s = read_header(f);
    if (s == CHI_OK) s = read_tensors(f);
    if (s != CHI_OK) {
        st_close(f);
        f = NULL;
    }
    *out = f;
    return s;
}

chi_status st_open(struct st_file **out, const char *path)
{
    struct st_file *f = xcalloc(1, sizeof *f);
    f->path = xstrdup(path);
    return read_all(out, f, map_file(f));
}

chi_status st_open_bytes(struct st_file **out, const char *name, const void *bytes, int64_t n)
{
    struct st_file *f = xcalloc(1, sizeof *f);
    f->path = xstrdup(name);
    f->map = (unsigned char *)(uintptr_t)bytes;
    f->bytes = n;
    return read_all(out, f, n < 8 ? too_short(f, n) : CHI_OK);
}

/* ---- values as floats ------------------------------------------------------------ */

chi_status st_floats(const struct st_file *f, const struct st_tensor *t, const float **values, float **own)
{
    *own = NULL;
    *values = t->data;
    if (t->dtype == ST_F32) return CHI_OK;
    if (t->dtype != ST_F16 && t->dtype != ST_BF16)
        return fail(CHI_EDATA, "%s: %s is %s, wanted F32, F16 or BF16", f->path, t->name, st_dtype_name(t->dtype));
    float *to = *own = mem_take((size_t)t->n * sizeof *to, t->name);
    if (!to) return CHI_ENOMEM;
    const uint16_t *from = t->data;
    for (int64_t i = 0; i < t->n; i++) {
        uint32_t u = (uint32_t)from[i] << 16;
        if (t->dtype == ST_F16) to[i] = half_value(from[i]);
        else memcpy(to + i, &u, sizeof u);
    }
    *values = to;
    return CHI_OK;
}

/* ---- writing -------------------------------------------------------------- */

struct st_writer {
    FILE   *file, *json;                /* json: into text while tensors are announced */
    char   *text;
    size_t  len;
    FILE   *meta;
    char   *meta_text;
    size_t  meta_len;
    int64_t n, total, written;
    bool    sealed;
    chi_status status;                  /* the first misuse                        */
};

struct st_writer *st_create(FILE *file)
{
    struct st_writer *w = xcalloc(1, sizeof *w);
    w->file = file;
    w->json = open_memstream(&w->text, &w->len);
    w->meta = open_memstream(&w->meta_text, &w->meta_len);
    if (!w->json || !w->meta) w->status = fail(CHI_ENOMEM, "no memory for the header of a tensor file");
    return w;
}

void st_want_seal(struct st_writer *w)
{
    w->sealed = true;
    st_put_meta(w, seal_key, "0000000000000000");
}

void st_put_meta(struct st_writer *w, const char *key, const char *value)
{
    if (w->status != CHI_OK) return;
    if (ftell(w->meta) > 0) putc(',', w->meta);
    json_quote(w->meta, key);
    putc(':', w->meta);
    json_quote(w->meta, value);
}

void st_add(struct st_writer *w, const char *name, int dtype, int n_dim, const int64_t *dim)
{
    int64_t bytes = st_dtype_bytes(dtype);
    if (w->status != CHI_OK) return;
    if (!bytes || n_dim < 0 || n_dim > 8) {
        w->status = fail(CHI_EBUG, "tensor %s: dtype %d or %d dimensions cannot be stored", name, dtype, n_dim);
        return;
    }
    if (w->total % bytes) {
        w->status = fail(CHI_EBUG, "tensor %s would lie at byte %lld, unaligned: add wider types first",
                         name, (long long)w->total);
        return;
    }
    if (w->n++) putc(',', w->json);
    json_quote(w->json, name);
    fprintf(w->json, ":{\"dtype\":\"%s\",\"shape\":[", st_dtype_name(dtype));
    for (int i = 0; i < n_dim; i++) {
        fprintf(w->json, "%s%lld", i ? "," : "", (long long)dim[i]);
        if (dim[i] < 0 || __builtin_mul_overflow(bytes, dim[i], &bytes))
            w->status = fail(CHI_EBUG, "tensor %s: its shape overflows", name);
    }
    int64_t end;
    if (__builtin_add_overflow(w->total, bytes, &end))
        w->status = fail(CHI_EBUG, "tensor %s: its shape overflows", name);
    else {
        fprintf(w->json, "],\"data_offsets\":[%lld,%lld]}", (long long)w->total, (long long)end);
        w->total = end;
    }
}

static chi_status put(struct st_writer *w, const void *bytes, size_t n)
{
    if (n && fwrite(bytes, 1, n, w->file) != n) return fs_fail("write", "a tensor file");
    return CHI_OK;
}

/* {"__metadata__":{...},"NAME":{...},...} and spaces up to a multiple of 64, or 4096   */
static chi_status make_header(struct st_writer *w, unsigned char **bytes, int64_t *length)
{
    TRY(w->status);
    if (fflush(w->json) || fflush(w->meta))
        return w->status = fail(CHI_ENOMEM, "no memory for the header of a tensor file");
    char *header = xprintf("{%s%s%s%s%s}", w->meta_len ? "\"__metadata__\":{" : "", w->meta_text,
                           w->meta_len ? "}" : "", w->meta_len && w->len ? "," : "", w->text);
    size_t n = strlen(header);
    size_t padded = (size_t)round_up((int64_t)n + 8, w->sealed ? SEALED_ALIGN : DATA_ALIGN) - 8;
    if (padded > HEADER_MAX) {
        free(header);
        return w->status = fail(CHI_EBUG, "%lld tensors do not fit into a header of 100 MB", (long long)w->n);
    }
    unsigned char *all = *bytes = xcalloc(8 + padded, 1);
    for (int i = 0; i < 8; i++) all[i] = (unsigned char)((uint64_t)padded >> (8 * i));
    memcpy(all + 8, header, n);
    memset(all + 8 + n, ' ', padded - n);
    free(header);
    *length = (int64_t)(8 + padded);
    if (w->sealed && !st_seal(all, *length)) w->status = CHI_ENOMEM;
    return w->status;
}

chi_status st_begin(struct st_writer *w)
{
    unsigned char *all = NULL;
    int64_t n = 0;
    if (make_header(w, &all, &n) == CHI_OK) w->status = put(w, all, (size_t)n);
    free(all);
    return w->status;
}

chi_status st_write(struct st_writer *w, const void *data, int64_t bytes)
{
    TRY(w->status);
    if (bytes < 0 || bytes > w->total - w->written)
        return w->status = fail(CHI_EBUG, "more data than the %lld bytes announced", (long long)w->total);
    w->written += bytes;
    return w->status = put(w, data, (size_t)bytes);
}

static void drop_writer(struct st_writer *w)
{
    if (w->json) fclose(w->json);
    if (w->meta) fclose(w->meta);
    free(w->text);
    free(w->meta_text);
    free(w);
}

chi_status st_finish(struct st_writer *w)
{
    chi_status s = w->status;
    if (s == CHI_OK && w->written != w->total)
        s = fail(CHI_EBUG, "%lld bytes of tensor data were announced, %lld written",
                 (long long)w->total, (long long)w->written);
    if (s == CHI_OK && fflush(w->file)) s = fs_fail("write", "a tensor file");
    drop_writer(w);
    return s;
}

chi_status st_header(struct st_writer *w, unsigned char **bytes, int64_t *n)
{
    *bytes = NULL;
    chi_status s = make_header(w, bytes, n);
    drop_writer(w);
    if (s == CHI_OK) return s;
    free(*bytes);
    *bytes = NULL;
    return s;
}
