/* gguf.c - the reader of GGUF files; see gguf.h.
 *
 *     "GGUF" | u32 version 3 | u64 tensors | u64 pairs
 *     pair:    text key | u32 type | value               text: u64 length, bytes; array: u32 type, u64 n, values
 *     tensor:  text name | u32 dimensions | u64 each, innermost first | u32 type | u64 offset
 *     zeros up to a multiple of general.alignment (32) | data, each tensor at a multiple of it
 *
 * (github.com/ggml-org/ggml, docs/gguf.md.)  All numbers are little-endian.  Tensors lie in the order of their
 * descriptions without holes but for the alignment's zeros, as that format's own reader demands.            */
#include "gguf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core.h"
#include "fs.h"
#include "mapped.h"

enum { GGUF_V3 = 3, ALIGNMENT = 32, ALIGNMENT_MAX = 65536, NAME_LONGEST = 64, KEY_LONGEST = 65535, DEPTH = 4 };
enum { U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, ARRAY, U64, I64, F64, VALUE_TYPES };
static const int value_bytes[VALUE_TYPES] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

static const struct { const char *name; int type, block, bytes; } types[] = {
    { "F32", GGUF_F32, 1, 4 }, { "F16", GGUF_F16, 1, 2 },
    { "TQ1_0", GGUF_TQ1_0, 256, 54 }, { "TQ2_0", GGUF_TQ2_0, 256, 66 },
};

struct pair { char *key, *text; int64_t at; uint32_t u32; int type; };  /* text at byte at; u32 of an U32        */

struct gguf_file {
    char   *path;
    const unsigned char *map;
    int64_t bytes, at;                  /* of the file; where the reader is                                  */
    int64_t data, alignment;            /* where the data begins                                             */
    bool    mapped;
    struct pair *pair; int64_t n_pair;
    struct gguf_tensor *tensor; int64_t n_tensor;
    struct gguf_tensor **sorted;        /* by name                                                           */
};

static int type_row(int type)
{
    for (int i = 0; i < COUNT(types); i++)
        if (types[i].type == type) return i;
    return -1;
}

const char *gguf_type_name(int type)
{
    return type_row(type) >= 0 ? types[type_row(type)].name : "?";
}

int64_t gguf_bytes(int type, int64_t n)
{
    int i = type_row(type);
    int64_t bytes;
    if (i < 0 || n <= 0 || n % types[i].block
        || __builtin_mul_overflow(n / types[i].block, types[i].bytes, &bytes))
        return 0;
    return bytes;
}

void gguf_close(struct gguf_file *f)
{
    if (!f) return;
    for (int64_t i = 0; i < f->n_pair; i++) {
        free(f->pair[i].key);
        free(f->pair[i].text);
    }
    for (int64_t i = 0; i < f->n_tensor; i++) free((char *)(uintptr_t)f->tensor[i].name);
    mem_free(f->pair);
    mem_free(f->tensor);
    mem_free(f->sorted);
    if (f->mapped) {
        mapped_drop(f->map);
        munmap((void *)(uintptr_t)f->map, (size_t)f->bytes);
    }
    free(f->path);
    free(f);
}

const char *gguf_path(const struct gguf_file *f)
{
    return f->path;
}

const struct gguf_tensor *gguf_at(const struct gguf_file *f, int64_t i)
{
    return i >= 0 && i < f->n_tensor ? &f->tensor[i] : NULL;
}

static int find_name(const void *key, const void *t)
{
    return strcmp(key, (*(struct gguf_tensor *const *)t)->name);
}

const struct gguf_tensor *gguf_find(const struct gguf_file *f, const char *name)
{
    if (!f->n_tensor) return NULL;
    struct gguf_tensor **t = bsearch(name, f->sorted, (size_t)f->n_tensor, sizeof *f->sorted, find_name);
    return t ? *t : NULL;
}

static const struct pair *find_pair(const struct gguf_file *f, const char *key)
{
    for (int64_t i = 0; i < f->n_pair; i++)
        if (!strcmp(f->pair[i].key, key)) return &f->pair[i];
    return NULL;
}

const char *gguf_text(const struct gguf_file *f, const char *key)
{
    const struct pair *p = find_pair(f, key);
    return p ? p->text : NULL;
}

/* ---- numbers and texts ---------------------------------------------------------------------------------- */

static chi_status ends_early(const struct gguf_file *f, const char *what)
{
    return fail(CHI_EDATA, "%s: its %lld bytes end inside %s: damaged, or copied incompletely?", f->path,
                (long long)f->bytes, what);
}

static chi_status skip(struct gguf_file *f, int64_t n, const char *what)
{
    if (n < 0 || n > f->bytes - f->at) return ends_early(f, what);
    f->at += n;
    return CHI_OK;
}

/* n little-endian bytes                                                                                      */
static chi_status number(struct gguf_file *f, int n, const char *what, uint64_t *v)
{
    const unsigned char *p = f->map + f->at;
    TRY(skip(f, n, what));
    *v = 0;
    for (int i = 0; i < n; i++) *v |= (uint64_t)p[i] << (8 * i);
    return CHI_OK;
}

/* A text without NUL; *text is the caller's; NULL: only to be passed over                                    */
static chi_status text(struct gguf_file *f, int64_t longest, const char *what, char **out)
{
    uint64_t n;
    TRY(number(f, 8, what, &n));
    if (n > (uint64_t)(f->bytes - f->at)) return ends_early(f, what);
    if (longest && (!n || n > (uint64_t)longest))
        return fail(CHI_EDATA, "%s: %s has %llu bytes at byte %lld, wanted 1..%lld", f->path, what,
                    (unsigned long long)n, (long long)f->at, (long long)longest);
    const char *p = (const char *)f->map + f->at;
    TRY(skip(f, (int64_t)n, what));
    if (!out) return CHI_OK;
    if (memchr(p, 0, (size_t)n)) return fail(CHI_EDATA, "%s: %s has a NUL byte in it: damaged", f->path, what);
    *out = xcalloc((size_t)n + 1, 1);
    memcpy(*out, p, (size_t)n);
    return CHI_OK;
}

/* A name or a key: printable ASCII                                                                           */
static chi_status word(struct gguf_file *f, int64_t longest, const char *what, char **out)
{
    TRY(text(f, longest, what, out));
    for (const unsigned char *p = (const unsigned char *)*out; *p; p++)
        if (*p <= 32 || *p > 126)
            return fail(CHI_EDATA,
                        "%s: %s has byte 0x%02x in it, wanted are printable characters of ASCII: damaged",
                        f->path, what, *p);
    return CHI_OK;
}

/* ---- pairs ------------------------------------------------------------------------------------------------ */

static chi_status skip_value(struct gguf_file *f, uint64_t type, int depth);

static chi_status skip_array(struct gguf_file *f, int depth)
{
    uint64_t type, n;
    TRY(number(f, 4, "an array", &type));
    TRY(number(f, 8, "an array", &n));
    if (type >= VALUE_TYPES || depth >= DEPTH)
        return fail(CHI_EDATA, "%s: an array of type %llu in %d others, wanted is 0..%d in at most %d", f->path,
                    (unsigned long long)type, depth, VALUE_TYPES - 1, DEPTH);
    if (n > (uint64_t)(f->bytes - f->at)) return ends_early(f, "an array");      /* a value has a byte at least */
    if (type != TEXT && type != ARRAY && type != BOOL)
        return n > (uint64_t)INT64_MAX / 8 ? ends_early(f, "an array")
                                           : skip(f, (int64_t)n * value_bytes[type], "an array");
    for (uint64_t i = 0; i < n; i++) TRY(skip_value(f, type, depth + 1));
    return CHI_OK;
}

static chi_status skip_value(struct gguf_file *f, uint64_t type, int depth)
{
    uint64_t v;
    if (type == ARRAY) return skip_array(f, depth);
    if (type == TEXT) return text(f, 0, "a text", NULL);
    TRY(number(f, value_bytes[type], "a value", &v));
    if (type == BOOL && v > 1)
        return fail(CHI_EDATA, "%s: a truth value is %llu, wanted 0 or 1", f->path, (unsigned long long)v);
    return CHI_OK;
}

static chi_status read_pair(struct gguf_file *f, struct pair *p)
{
    uint64_t type, v;
    TRY(word(f, KEY_LONGEST, "a key", &p->key));
    TRY(number(f, 4, "the type of a value", &type));
    if (type >= VALUE_TYPES)
        return fail(CHI_EDATA, "%s: the value of %s has type %llu, wanted 0..%d", f->path, p->key,
                    (unsigned long long)type, VALUE_TYPES - 1);
    p->type = (int)type;
    p->at = f->at + 8;
    if (type == TEXT) return text(f, 0, "a text", &p->text);
    if (type != U32) return skip_value(f, type, 0);
    TRY(number(f, 4, "a value", &v));
    p->u32 = (uint32_t)v;
    return CHI_OK;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct pair *)a)->key, ((const struct pair *)b)->key);
}

static chi_status read_pairs(struct gguf_file *f, uint64_t n)
{
    enum { SMALLEST = 8 + 1 + 4 + 1 };
    if (n > (uint64_t)(f->bytes - f->at) / SMALLEST)
        return fail(CHI_EDATA,
                    "%s is %lld bytes, its header promises %llu keys: damaged, or copied incompletely?", f->path,
                    (long long)f->bytes, (unsigned long long)n);
    if (!(f->pair = mem_take((size_t)(n + 1) * sizeof *f->pair, f->path))) return CHI_ENOMEM;
    for (uint64_t i = 0; i < n; i++) {
        f->n_pair++;
        TRY(read_pair(f, &f->pair[i]));
    }
    qsort(f->pair, (size_t)n, sizeof *f->pair, by_key);
    for (int64_t i = 1; i < f->n_pair; i++)
        if (!strcmp(f->pair[i - 1].key, f->pair[i].key))
            return fail(CHI_EDATA, "%s has the key %s twice", f->path, f->pair[i].key);
    const struct pair *a = find_pair(f, "general.alignment");
    f->alignment = a ? a->u32 : ALIGNMENT;
    if (a && (a->type != U32 || a->u32 < 8 || a->u32 > ALIGNMENT_MAX || a->u32 & (a->u32 - 1)))
        return fail(CHI_EDATA, "%s: general.alignment is no power of 2 from 8 to %d", f->path, ALIGNMENT_MAX);
    return CHI_OK;
}

/* ---- tensors ---------------------------------------------------------------------------------------------- */

static chi_status read_shape(struct gguf_file *f, struct gguf_tensor *t)
{
    uint64_t n;
    int64_t inner = 1;
    TRY(number(f, 4, "a tensor", &n));
    if (n < 1 || n > COUNT(t->dim))
        return fail(CHI_EDATA, "%s: tensor %s has %llu dimensions, wanted 1..%d", f->path, t->name,
                    (unsigned long long)n, (int)COUNT(t->dim));
    t->n_dim = (int)n;
    t->n = 1;
    for (int i = 0; i < t->n_dim; i++) {
        uint64_t d;
        TRY(number(f, 8, "a tensor", &d));
        if (!d || d > INT64_MAX || __builtin_mul_overflow(t->n, (int64_t)d, &t->n))
            return fail(CHI_EDATA, "%s: tensor %s: dimension %d is %llu: zero, or the product overflows", f->path,
                        t->name, i, (unsigned long long)d);
        t->dim[t->n_dim - 1 - i] = (int64_t)d;
        if (!i) inner = (int64_t)d;
    }
    TRY(number(f, 4, "a tensor", &n));
    int row = n > INT32_MAX ? -1 : type_row((int)n);
    if (row < 0)
        return fail(CHI_EDATA,
                    "%s: tensor %s has type %llu; known are F32 (0), F16 (1), TQ1_0 (34) and TQ2_0 (35)", f->path,
                    t->name, (unsigned long long)n);
    t->type = (int)n;
    t->bytes = gguf_bytes(t->type, t->n);
    if (!t->bytes || inner % types[row].block)
        return fail(CHI_EDATA, "%s: tensor %s has rows of %lld values, %s wants a multiple of %d", f->path, t->name,
                    (long long)inner, types[row].name, types[row].block);
    return CHI_OK;
}

/* *end: where the data ends so far, counted from its start                                                     */
static chi_status read_tensor(struct gguf_file *f, struct gguf_tensor *t, int64_t *end)
{
    uint64_t offset;
    char *name = NULL;
    chi_status s = word(f, NAME_LONGEST, "the name of a tensor", &name);
    t->name = name;
    TRY(s);
    TRY(read_shape(f, t));
    TRY(number(f, 8, "a tensor", &offset));
    int64_t want = *end > INT64_MAX - f->alignment ? INT64_MAX : round_up(*end, f->alignment);
    if (offset != (uint64_t)want)
        return fail(CHI_EDATA, "%s: tensor %s lies at byte %llu of the data, wanted is %lld", f->path, t->name,
                    (unsigned long long)offset, (long long)want);
    if (__builtin_add_overflow(want, t->bytes, end))
        return fail(CHI_EDATA, "%s: tensor %s: its end overflows 64 bits", f->path, t->name);
    t->data = f->map + want;                    /* from the start of the data, as soon as that is known          */
    return CHI_OK;
}

static bool zeros(const struct gguf_file *f, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++)
        if (f->map[i]) return false;
    return true;
}

static chi_status check_zeros(const struct gguf_file *f, int64_t from, int64_t to)
{
    return zeros(f, from, to) ? CHI_OK
                              : fail(CHI_EDATA,
                                     "%s: bytes %lld..%lld, which fill up to a multiple of %lld, are not "
                                     "zeros: damaged",
                                     f->path, (long long)from, (long long)to - 1, (long long)f->alignment);
}

/* The data begins behind the descriptions, and ends with the file or with the alignment's zeros               */
static chi_status place(struct gguf_file *f, int64_t end)
{
    int64_t last = f->bytes;
    f->data = round_up(f->at, f->alignment);
    if (!f->n_tensor && f->bytes == f->at) f->data = f->at;
    if (f->data > last || end > last - f->data)
        return fail(CHI_EDATA, "%s is %lld bytes, its header promises %lld and %lld of tensors: copied incompletely?",
                    f->path, (long long)last, (long long)f->data, (long long)end);
    int64_t tail = last - f->data - end, pad = round_up(end, f->alignment) - end;
    if (tail && tail != pad)
        return fail(CHI_EDATA, "%s is %lld bytes, its tensors end at %lld: something was appended", f->path,
                    (long long)last, (long long)(f->data + end));
    TRY(check_zeros(f, f->at, f->data));
    for (int64_t i = 0; i < f->n_tensor; i++) {
        struct gguf_tensor *t = &f->tensor[i];
        t->data += f->data;
        int64_t to = t->data + t->bytes - f->map;
        TRY(check_zeros(f, to, i + 1 < f->n_tensor ? f->data + round_up(to - f->data, f->alignment) : last));
    }
    return CHI_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct gguf_tensor *const *)a)->name, (*(struct gguf_tensor *const *)b)->name);
}

static chi_status read_tensors(struct gguf_file *f, uint64_t n)
{
    enum { SMALLEST = 8 + 1 + 4 + 8 + 4 + 8 };
    int64_t end = 0;
    if (n > (uint64_t)(f->bytes - f->at) / SMALLEST)
        return fail(CHI_EDATA,
                    "%s is %lld bytes, its header promises %llu tensors: damaged, or copied incompletely?",
                    f->path, (long long)f->bytes, (unsigned long long)n);
    f->tensor = mem_take((size_t)(n + 1) * sizeof *f->tensor, f->path);
    f->sorted = mem_take((size_t)(n + 1) * sizeof *f->sorted, f->path);
    if (!f->tensor || !f->sorted) return CHI_ENOMEM;
    for (uint64_t i = 0; i < n; i++) {
        f->sorted[f->n_tensor++] = &f->tensor[i];
        TRY(read_tensor(f, &f->tensor[i], &end));
    }
    qsort(f->sorted, (size_t)n, sizeof *f->sorted, by_name);
    for (int64_t i = 1; i < f->n_tensor; i++)
        if (!strcmp(f->sorted[i - 1]->name, f->sorted[i]->name))
            return fail(CHI_EDATA, "%s has tensor %s twice", f->path, f->sorted[i]->name);
    return place(f, end);
}

/* ---- the file ----------------------------------------------------------------------------------------------- */

static chi_status read_file(struct gguf_file *f)
{
    uint64_t version, tensors, pairs;
    if (f->bytes < 24 || memcmp(f->map, "GGUF", 4) != 0)
        return fail(CHI_EDATA, "%s is no GGUF file: wanted are \"GGUF\" and 20 bytes of numbers at its start",
                    f->path);
    f->at = 4;
    TRY(number(f, 4, "the header", &version));
    TRY(number(f, 8, "the header", &tensors));
    TRY(number(f, 8, "the header", &pairs));
    if (version != GGUF_V3)
        return fail(CHI_EDATA, "%s is GGUF version %llu, this program reads %d%s", f->path,
                    (unsigned long long)version, GGUF_V3,
                    version == (uint64_t)GGUF_V3 << 24 ? ": its numbers are big-endian" : "");
    TRY(read_pairs(f, pairs));
    return read_tensors(f, tensors);
}

static chi_status map_file(struct gguf_file *f)
{
    struct stat identity;
    unsigned char *map;
    TRY(mapped_open(f->path, &map, &identity));
    f->map = map;
    f->bytes = identity.st_size;
    f->mapped = map;
    return map ? CHI_OK : fail(CHI_EDATA, "%s is empty", f->path);
}

static chi_status read_all(struct gguf_file **out, struct gguf_file *f, chi_status s)
{
    if (s == CHI_OK) s = read_file(f);
    if (s != CHI_OK) {
        gguf_close(f);
        f = NULL;
    }
    *out = f;
    return s;
}

chi_status gguf_open(struct gguf_file **out, const char *path)
{
    struct gguf_file *f = xcalloc(1, sizeof *f);
    f->path = xstrdup(path);
    return read_all(out, f, map_file(f));
}

chi_status gguf_open_bytes(struct gguf_file **out, const char *name, const void *bytes, int64_t n)
{
    struct gguf_file *f = xcalloc(1, sizeof *f);
    f->path = xstrdup(name);
    f->map = bytes;
    f->bytes = n;
    return read_all(out, f, CHI_OK);
}

chi_status gguf_check_seal(const struct gguf_file *f)
{
    enum { DIGITS = 16 };
    const struct pair *p = find_pair(f, GGUF_SEAL);
    char hex[DIGITS + 1];
    if (!p || !p->text || strlen(p->text) != DIGITS)
        return fail(CHI_EDATA, "%s has no key " GGUF_SEAL " of %d digits: chimera export did not write it",
                    f->path, DIGITS);
    unsigned char *copy = mem_take((size_t)f->data, "a header");
    if (!copy) return CHI_ENOMEM;
    memcpy(copy, f->map, (size_t)f->data);
    memset(copy + p->at, '0', DIGITS);
    snprintf(hex, sizeof hex, "%016" PRIx64, xxh3(copy, (size_t)f->data));
    mem_free(copy);
    return !strcmp(hex, p->text)
               ? CHI_OK
               : fail(CHI_EDATA, "%s: its header is damaged: it gives XXH3 %s and does not say so", f->path, hex);
}
