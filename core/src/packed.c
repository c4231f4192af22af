/* packed.c - see packed.h.                                                                                */
#include "packed.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "fs.h"

struct packed {
    struct st_file *file;
    struct packed_tensor *tensor; int64_t n;                /* in the order of the data                     */
};

bool packed_is(const char *path)
{
    unsigned char head[9] = { 0 };
    size_t n = strlen(path);
    if (fs_is_dir(path)) return false;
    if (n > 5 && !strcmp(path + n - 5, ".b158")) return true;
    FILE *f = fopen(path, "rbe");
    bool read = f && fread(head, 1, sizeof head, f) == sizeof head;
    if (f) fclose(f);
    return read && head[8] == '{' && !head[4] && !head[5] && !head[6] && !head[7];      /* no text begins so     */
}

/* ---- a line of metadata --------------------------------------------------------------------------------- */

/* key=NUMBER, or key=AxB; *text moves behind it                                                            */
static bool number(const char **text, const char *key, char after, int64_t *v)
{
    size_t n = strlen(key);
    if (strncmp(*text, key, n) != 0) return false;
    const char *p = *text + n;
    for (*v = 0; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(*v, 10, v) || __builtin_add_overflow(*v, *p - '0', v)) return false;
    if (p == *text + n || *p != after) return false;
    *text = p + 1;
    return *v > 0 && *v <= (int64_t)1 << 40;            /* so that nobody's sums of them overflow              */
}

static bool hash_of(const char *text, uint64_t *hash)
{
    if (strncmp(text, "xxh3=", 5) != 0) return false;
    text += 5;
    if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16) return false;
    *hash = strtoull(text, NULL, 16);
    return true;
}

static bool name_of(const char **text, char out[64])
{
    if (strncmp(*text, "encoding=", 9) != 0) return false;
    const char *name = *text + 9;
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
    if (!n || n > 63 || name[n] != ' ') return false;
    memcpy(out, name, n);
    out[n] = 0;
    *text = name + n + 1;
    return true;
}

static bool read_line(const char *line, struct packed_tensor *p)
{
    int64_t act_block;
    if (p->t->dtype == ST_F32) return hash_of(line, &p->hash);
    return p->t->dtype == ST_U8 && p->t->n_dim == 1 && name_of(&line, p->encoding)
        && number(&line, "shape=", 'x', &p->rows) && number(&line, "", ' ', &p->cols)
        && number(&line, "group=", ' ', &p->group) && number(&line, "act_block=", ' ', &act_block)
        && act_block == CHI_ACT_BLOCK && hash_of(line, &p->hash);
}

static bool is_pad(const struct st_tensor *t)
{
    return !strncmp(t->name, "pad.", 4) && t->dtype == ST_U8 && t->n < 64;
}

static chi_status read_tensors(struct packed *p)
{
    const struct st_tensor *t;
    int64_t n = 0;
    while (st_at(p->file, n)) n++;
    p->tensor = mem_take((size_t)max_i64(n, 1) * sizeof *p->tensor, "the list of tensors");
    if (!p->tensor) return CHI_ENOMEM;
    for (int64_t i = 0; (t = st_at(p->file, i)); i++) {
        struct packed_tensor *x = &p->tensor[p->n];
        const char *line = st_meta(p->file, t->name);
        *x = (struct packed_tensor){ .t = t };
        if (!line && is_pad(t)) {
            for (int64_t b = 0; b < t->n; b++)
                if (((const unsigned char *)t->data)[b])
                    return fail(CHI_EDATA, "%s: %s is not all zeros: the file is damaged", st_path(p->file), t->name);
            continue;
        }
        if (!line || !read_line(line, x))
            return fail(CHI_EDATA, "%s: its metadata says %s%s%s of tensor \"%s\", wanted is \"encoding=NAME shape=ROWSxCOLS "
                        "group=N act_block=%d xxh3=HEX\" (for F32 \"xxh3=HEX\")", st_path(p->file), line ? "\"" : "",
                        line ? line : "nothing", line ? "\"" : "", t->name, CHI_ACT_BLOCK);
        p->n++;
    }
    return CHI_OK;
}

/* ---- the file ------------------------------------------------------------------------------------------------ */

static chi_status read_meta(const struct packed *p)
{
    const char *path = st_path(p->file), *format = st_meta(p->file, "format");
    if (!st_sealed(p->file) || !format)
        return fail(CHI_EDATA, "%s is a tensor file, but no packed model, or a damaged one: its header begins with no "
                    "header_xxh3, or names no format; chimera convert makes packed models", path);
    if (strcmp(format, PACKED_FORMAT) != 0)
        return fail(CHI_EDATA, "%s has format \"%s\", this program reads \"%s\": use the version that wrote it", path,
                    format, PACKED_FORMAT);
    if (!packed_config(p) || !packed_manifest(p))
        return fail(CHI_EDATA, "%s: its metadata has no config or no manifest", path);
    return CHI_OK;
}

chi_status packed_from(struct packed **out, struct st_file *f)
{
    struct packed *p = *out = xcalloc(1, sizeof *p);
    p->file = f;
    chi_status s = read_meta(p);
    if (s == CHI_OK) s = read_tensors(p);
    if (s == CHI_OK) return s;
    packed_close(p);
    *out = NULL;
    return s;
}

chi_status packed_open(struct packed **out, const char *path)
{
    struct st_file *f;
    *out = NULL;
    TRY(st_open(&f, path));
    return packed_from(out, f);
}

void packed_close(struct packed *p)
{
    if (!p) return;
    mem_free(p->tensor);
    st_close(p->file);
    free(p);
}

const char *packed_path(const struct packed *p) { return st_path(p->file); }
const char *packed_config(const struct packed *p) { return st_meta(p->file, "config"); }
const char *packed_manifest(const struct packed *p) { return st_meta(p->file, "manifest"); }

const struct packed_tensor *packed_at(const struct packed *p, int64_t i)
{
    return i >= 0 && i < p->n ? &p->tensor[i] : NULL;
}

const struct packed_tensor *packed_find(const struct packed *p, const char *name)
{
    for (int64_t i = 0; i < p->n; i++)
        if (!strcmp(p->tensor[i].t->name, name)) return &p->tensor[i];
    return NULL;
}

chi_status packed_check(const struct packed *p, const struct packed_tensor *x)
{
    uint64_t hash = xxh3(x->t->data, (size_t)x->t->bytes);
    if (hash == x->hash) return CHI_OK;
    return fail(CHI_EDATA, "%s: tensor %s is damaged: its XXH3 is %016" PRIx64 ", the header says %016" PRIx64,
                packed_path(p), x->t->name, hash, x->hash);
}

/* ---- numbers ---------------------------------------------------------------------------------------------------- */

bool values_fit(const char *values, const int8_t *q, const float *scale, int64_t n, int64_t n_scale)
{
    int most = !strcmp(values, "ternary") ? 1 : 127;
    for (int64_t i = 0; q && i < n; i++)
        if (q[i] < -most || q[i] > most) return false;
    for (int64_t i = 0; i < n_scale; i++)
        if (!isfinite(scale[i])) return false;
    return true;
}
