/* packed.c - see packed.h.                                                                                */
#include "packed.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "core.h"
#include "fs.h"
#include "json.h"
#include "mapped.h"

enum { MAIN, EXPERTS, PARTS, PIECE = 16 << 20 };

struct packed {
    struct st_file *file[PARTS];                            /* [EXPERTS] NULL: there is none                */
    struct packed_tensor *tensor; int64_t n;                /* in the order of the data                     */
    struct packed_tensor **sorted;                          /* [n] by name                                  */
};

static bool is_folder(const char *path)
{
    char *file = fs_join(path, "model.b158"), *ckpt = fs_join(path, "ckpt");
    bool is = fs_exists(file) && !fs_is_dir(ckpt);
    free(file);
    free(ckpt);
    return is;
}

bool packed_is(const char *path)
{
    unsigned char head[9] = { 0 };
    size_t n = strlen(path);
    struct stat st;
    if (fs_is_dir(path)) return is_folder(path);
    if (n > 5 && !strcmp(path + n - 5, ".b158")) return true;
    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode)) return false;      /* what is read of a pipe is gone from it */
    FILE *f = fopen(path, "rbe");
    bool read = f && fread(head, 1, sizeof head, f) == sizeof head;
    if (f) fclose(f);
    return read && head[8] == '{' && !head[4] && !head[5] && !head[6] && !head[7];      /* no text begins so     */
}

char *packed_experts_path(const char *path)
{
    size_t n = strlen(path);
    if (n > 5 && !strcmp(path + n - 5, ".b158")) n -= 5;
    return xprintf("%.*s_experts.b158", (int)n, path);
}

bool packed_is_expert(const char *name)
{
    return strstr(name, ".experts.") != NULL;
}

/* ---- which model ------------------------------------------------------------------------------------------ */

/* Components that decide what a model says, unlike those that train it                                        */
static bool counts(const char *kind)
{
    static const char *const kinds[] = { "layer", "loop", "adapter", "quantizer", "tokenizer" };
    for (int64_t i = 0; kind && i < COUNT(kinds); i++)
        if (!strcmp(kinds[i], kind)) return true;
    return false;
}

/* XXH3 of the text: a line "KIND NAME REVISION SECTION" a component, the manifest's lines of shapes, and
 * "values HEX", each with its newline                                                                         */
chi_status packed_model_hash(const char *manifest, uint64_t values, uint64_t *hash)
{
    cJSON *j;
    char *text = NULL;
    size_t n = 0;
    TRY(json_parse("the manifest", manifest, (int64_t)strlen(manifest), 4, &j));
    FILE *f = open_memstream(&text, &n);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(j, "components"), *c;
    for (c = list ? list->child : NULL; f && c; c = c->next) {
        const char *kind = json_text(c, "kind"), *name = json_text(c, "name"), *section = json_text(c, "section");
        int64_t revision = 0;
        json_int(cJSON_GetObjectItemCaseSensitive(c, "revision"), &revision);
        if (counts(kind) && name && section)
            fprintf(f, "%s %s %lld %s\n", kind, name, (long long)revision, section);
    }
    list = cJSON_GetObjectItemCaseSensitive(j, "shape");
    for (c = list ? list->child : NULL; f && c; c = c->next)
        if (cJSON_IsString(c)) fprintf(f, "%s\n", c->valuestring);
    if (f) fprintf(f, "values %016" PRIx64 "\n", values);
    chi_status s = f && fclose(f) == 0 ? CHI_OK : fail(CHI_ENOMEM, "no memory for the text of a manifest");
    if (s == CHI_OK) *hash = xxh3(text, n);
    free(text);
    cJSON_Delete(j);
    return s;
}

struct packed_value { XXH3_state_t *q, *scale; };

struct packed_value *packed_value_begin(void)
{
    struct packed_value *v = xcalloc(1, sizeof *v);
    *v = (struct packed_value){ XXH3_createState(), XXH3_createState() };
    if (v->q && v->scale) {
        XXH3_64bits_reset(v->q);
        XXH3_64bits_reset(v->scale);
        return v;
    }
    packed_value_end(v, "", 0, false);
    return NULL;
}

void packed_value_add(struct packed_value *v, const int8_t *q, int64_t n, const float *scale, int64_t n_scale)
{
    if (q) XXH3_64bits_update(v->q, q, (size_t)n);
    XXH3_64bits_update(v->scale, scale, (size_t)n_scale * sizeof *scale);
}

/* Of an F32 tensor (group 0) that of its data                                                                  */
uint64_t packed_value_end(struct packed_value *v, const char *name, int64_t group, bool integer)
{
    struct { uint64_t name, q, scale; int64_t group; } all = { .name = xxh3(name, strlen(name)), .group = group };
    if (!v) return 0;
    if (v->q && integer) all.q = XXH3_64bits_digest(v->q);
    if (v->scale) all.scale = XXH3_64bits_digest(v->scale);
    XXH3_freeState(v->q);
    XXH3_freeState(v->scale);
    free(v);
    return group ? xxh3(&all, sizeof all) : all.scale;
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

static chi_status check_pad(const struct st_file *f, const struct st_tensor *t)
{
    for (int64_t b = 0; b < t->n; b++)
        if (((const unsigned char *)t->data)[b])
            return fail(CHI_EDATA, "%s: %s is not all zeros: the file is damaged", st_path(f), t->name);
    return CHI_OK;
}

static chi_status read_tensors(struct packed *p, const struct st_file *f)
{
    const struct st_tensor *t;
    for (int64_t i = 0; (t = st_at(f, i)); i++) {
        struct packed_tensor *x = &p->tensor[p->n];
        const char *line = st_meta(f, t->name);
        *x = (struct packed_tensor){ .t = t, .path = st_path(f) };
        if (!line && is_pad(t)) {
            TRY(check_pad(f, t));
            continue;
        }
        if (!line || !read_line(line, x))
            return fail(CHI_EDATA,
                        "%s: its metadata says %s%s%s of tensor \"%s\", wanted is \"encoding=NAME shape=ROWSxCOLS "
                        "group=N act_block=%d xxh3=HEX\" (for F32 \"xxh3=HEX\")", st_path(f), line ? "\"" : "",
                        line ? line : "nothing", line ? "\"" : "", t->name, CHI_ACT_BLOCK);
        if ((uintptr_t)t->data % 64)
            return fail(CHI_EDATA, "%s: tensor %s does not begin at a multiple of 64 bytes", st_path(f), t->name);
        p->sorted[p->n++] = x;
    }
    return CHI_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct packed_tensor *const *)a)->t->name, (*(struct packed_tensor *const *)b)->t->name);
}

static chi_status read_both(struct packed *p)
{
    int64_t n = 1;
    for (int part = 0; part < PARTS; part++)
        for (int64_t i = 0; p->file[part] && st_at(p->file[part], i); i++) n++;
    p->tensor = mem_take((size_t)n * sizeof *p->tensor, "the list of tensors");
    p->sorted = mem_take((size_t)n * sizeof(void *), "the list of tensors");
    if (!p->tensor || !p->sorted) return CHI_ENOMEM;
    for (int part = 0; part < PARTS; part++)
        if (p->file[part]) TRY(read_tensors(p, p->file[part]));
    qsort(p->sorted, (size_t)p->n, sizeof *p->sorted, by_name);
    for (int64_t i = 1; i < p->n; i++)
        if (!by_name(&p->sorted[i - 1], &p->sorted[i]))
            return fail(CHI_EDATA, "%s and %s both have a tensor %s", p->sorted[i - 1]->path, p->sorted[i]->path,
                        p->sorted[i]->t->name);
    return CHI_OK;
}

/* ---- the files ----------------------------------------------------------------------------------------------- */

static chi_status read_format(const struct st_file *f)
{
    const char *path = st_path(f), *format = st_meta(f, "format");
    if (!st_sealed(f) || !format)
        return fail(CHI_EDATA,
                    "%s is a tensor file, but no packed model, or a damaged one: its header begins with no "
                    "header_xxh3, or names no format; chimera convert makes packed models", path);
    if (strncmp(format, PACKED_FORMAT, strcspn(PACKED_FORMAT, " ") + 1) != 0)
        return fail(CHI_EDATA,
                    "%s has format \"%s\", wanted is a packed model (\"%s\"): chimera import %s -o OUT takes "
                    "it over", path, format, PACKED_FORMAT, path);
    if (strcmp(format, PACKED_FORMAT) != 0)
        return fail(CHI_EDATA, "%s has format \"%s\", this program reads \"%s\": use the version that wrote it", path,
                    format, PACKED_FORMAT);
    if (!st_meta(f, "model_hash")) return fail(CHI_EDATA, "%s: its metadata has no model_hash", path);
    return CHI_OK;
}

static bool is_part(const struct st_file *f)
{
    const char *part = st_meta(f, "part");
    return part && !strcmp(part, "experts");
}

static chi_status read_main(const struct st_file *f)
{
    TRY(read_format(f));
    if (is_part(f))
        return fail(CHI_EDATA,
                    "%s holds the experts of a packed model: name the main file, which lies beside it without "
                    "\"_experts\" in its name", st_path(f));
    if (!st_meta(f, "config") || !st_meta(f, "manifest") || !st_meta(f, "values"))
        return fail(CHI_EDATA, "%s: its metadata has no config, no manifest or no values", st_path(f));
    const char *experts = st_meta(f, "experts");
    if (experts && (!*experts || *experts == '.' || strchr(experts, '/')))
        return fail(CHI_EDATA,
                    "%s: its metadata says that the experts' file is \"%s\", wanted is the name of a file beside it",
                    st_path(f), experts);
    return CHI_OK;
}

/* Belongs f to the main file?                                                                               */
static chi_status read_experts(const struct st_file *main, const struct st_file *f)
{
    const char *name = st_meta(main, "experts");
    if (!name && !f) return CHI_OK;
    if (!f) return fail(CHI_EDATA, "%s: the experts of the model lie in %s, which is missing", st_path(main), name);
    TRY(read_format(f));
    if (!name || !is_part(f))
        return fail(CHI_EDATA, "%s is no file of experts for %s", st_path(f), st_path(main));
    if (!strcmp(st_meta(main, "model_hash"), st_meta(f, "model_hash"))) return CHI_OK;
    return fail(CHI_EDATA, "%s holds the experts of another model: its model_hash is %s, that of %s is %s",
                st_path(f), st_meta(f, "model_hash"), st_path(main), st_meta(main, "model_hash"));
}

static chi_status finish(struct packed **out, struct packed *p, chi_status s)
{
    if (s == CHI_OK) s = read_experts(p->file[MAIN], p->file[EXPERTS]);
    if (s == CHI_OK) s = read_both(p);
    if (s != CHI_OK) {
        packed_close(p);
        p = NULL;
    }
    *out = p;
    return s;
}

chi_status packed_from(struct packed **out, struct st_file *main, struct st_file *experts)
{
    struct packed *p = xcalloc(1, sizeof *p);
    p->file[MAIN] = main;
    p->file[EXPERTS] = experts;
    return finish(out, p, read_main(main));
}

/* The file that the main one names, or, where both got another name, the one that has its name by the rule     */
static chi_status open_experts(struct packed *p)
{
    const char *path = st_path(p->file[MAIN]), *slash = strrchr(path, '/'), *name = st_meta(p->file[MAIN], "experts");
    if (!name) return CHI_OK;
    char *named = xprintf("%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, name),
        *other = packed_experts_path(path);
    const char *there = fs_exists(named) ? named : fs_exists(other) ? other : NULL;
    chi_status s = there ? st_open(&p->file[EXPERTS], there)
                 : fail(CHI_EDATA, "%s: the experts of the model lie in %s, which is missing: a packed model with "
                        "experts is two files, keep them together", path, named);
    free(named);
    free(other);
    return s;
}

chi_status packed_open(struct packed **out, const char *path)
{
    struct packed *p = xcalloc(1, sizeof *p);
    char *file = fs_is_dir(path) ? fs_join(path, "model.b158") : xstrdup(path);
    chi_status s = st_open(&p->file[MAIN], file);
    if (s == CHI_OK) s = read_main(p->file[MAIN]);
    if (s == CHI_OK) s = open_experts(p);
    free(file);
    return finish(out, p, s);
}

void packed_close(struct packed *p)
{
    if (!p) return;
    mem_free(p->tensor);
    mem_free(p->sorted);
    for (int part = 0; part < PARTS; part++) st_close(p->file[part]);
    free(p);
}

const char *packed_path(const struct packed *p) { return st_path(p->file[MAIN]); }
const char *packed_config(const struct packed *p) { return st_meta(p->file[MAIN], "config"); }
const char *packed_manifest(const struct packed *p) { return st_meta(p->file[MAIN], "manifest"); }

const struct st_file *packed_file(const struct packed *p, int i)
{
    return i >= 0 && i < PARTS ? p->file[i] : NULL;
}

const struct packed_tensor *packed_at(const struct packed *p, int64_t i)
{
    return i >= 0 && i < p->n ? &p->tensor[i] : NULL;
}

static int find_name(const void *key, const void *t)
{
    return strcmp(key, (*(struct packed_tensor *const *)t)->t->name);
}

const struct packed_tensor *packed_find(const struct packed *p, const char *name)
{
    struct packed_tensor **t = bsearch(name, p->sorted, (size_t)p->n, sizeof *p->sorted, find_name);
    return t ? *t : NULL;
}

chi_status packed_check(const struct packed_tensor *x)
{
    const unsigned char *data = x->t->data;
    XXH3_state_t *state = XXH3_createState();
    if (!state) return fail(CHI_ENOMEM, "no memory to check %s", x->path);
    XXH3_64bits_reset(state);
    for (int64_t at = 0; at < x->t->bytes; at += PIECE) {
        int64_t n = min_i64(PIECE, x->t->bytes - at);
        XXH3_64bits_update(state, data + at, (size_t)n);
        mapped_let_go(data + at, n);
    }
    uint64_t hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    if (hash == x->hash) return CHI_OK;
    return fail(CHI_EDATA, "%s: tensor %s is damaged: its XXH3 is %016" PRIx64 ", the header says %016" PRIx64,
                x->path, x->t->name, hash, x->hash);
}

/* ---- numbers ---------------------------------------------------------------------------------------------------- */

bool values_fit(const char *values, const int8_t *q, const float *scale, int64_t n, int64_t n_scale)
{
    int most = !strcmp(values, "ternary") ? 1 : 127;
    unsigned char widest = 0;               /* of q + most, which is 0 .. 2 most; a maximum compiles to vectors  */
    int64_t finite = 0;
    for (int64_t i = 0; q && i < n; i++) {
        unsigned char u = (unsigned char)(q[i] + most);
        widest = u > widest ? u : widest;
    }
    for (int64_t i = 0; i < n_scale; i++) finite += isfinite(scale[i]) != 0;
    return widest <= 2 * most && finite == n_scale;
}
