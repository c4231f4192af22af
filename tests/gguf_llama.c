/* gguf_llama.c - our GGUF files against llama.cpp's own code.
 *
 *     gguf_llama FOLDER compare FILE.gguf FLOATS.safetensors
 *         llama.cpp opens the file, accepts each tensor's blocks and makes floats of them, which are those of
 *         chimera's safetensors export, bit for bit; nothing is missing and nothing is there twice.
 *     gguf_llama FOLDER write FILE.gguf tq1_0|tq2_0 OUT.gguf
 *         a file of llama.cpp's making: pairs of FILE, random matrices through its quantisation and its
 *         writer; only the hashes, which it knows nothing of, are ours.
 *
 * FOLDER has the shared libraries (make check-gguf-llama fetches them).                                    */
#include "core.h"
#include "ggml.h"
#include "rng.h"
#include "safetensors.h"

#include <inttypes.h>
#include <stdlib.h>

enum { SEED = 7 };

static int wrong(const char *name, const char *what)
{
    printf("%s: %s\n", name, what);
    return 1;
}

/* ---- a file of ours in its hands ----------------------------------------------------------------------- */

struct opened { struct gguf_context *g; struct ggml_context *tensors; };

static bool open_gguf(struct opened *f, const char *path)
{
    f->g = gguf_init_from_file(path, (struct gguf_params){ false, &f->tensors });
    return f->g != NULL;
}

static bool same_shape(const struct ggml_tensor *t, const struct st_tensor *s)
{
    for (int i = 0; i < 4; i++)
        if (t->ne[i] != (i < s->n_dim ? s->dim[s->n_dim - 1 - i] : 1)) return false;
    return true;
}

static bool same_values(const struct ggml_tensor *t, const struct st_tensor *s)
{
    const struct ggml_traits *type = ggml_get_type_traits(t->type);
    float *v = xcalloc((size_t)s->n, sizeof *v);
    if (t->type == GGML_F32) memcpy(v, ggml_get_data(t), (size_t)s->n * sizeof *v);
    else type->to_float(ggml_get_data(t), v, s->n);
    bool same = !memcmp(v, s->data, (size_t)s->n * sizeof *v);
    free(v);
    return same;
}

static int compare_tensor(const struct opened *f, int64_t i, const struct st_file *floats, int64_t *found)
{
    const char *name = gguf_get_tensor_name(f->g, i);
    const struct ggml_tensor *t = ggml_get_tensor(f->tensors, name);
    const struct st_tensor *s = st_find(floats, name);
    if (!t) return wrong(name, "llama.cpp lists it and does not find it");
    if (gguf_get_tensor_offset(f->g, i) % gguf_get_alignment(f->g)) return wrong(name, "is not aligned");
    if (!ggml_validate_row_data(t->type, ggml_get_data(t), ggml_nbytes(t))) return wrong(name, "is refused");
    *found += s != NULL;
    if (!s) return strstr(name, ".scale") ? 0 : wrong(name, "safetensors lack it");
    if (!same_shape(t, s)) return wrong(name, "has another shape");
    if (!same_values(t, s)) return wrong(name, "has other values");
    printf("%s %s %zu\n", ggml_get_type_traits(t->type)->name, name, gguf_get_tensor_size(f->g, i));
    return 0;
}

static int compare_pairs(const struct opened *f)
{
    static const char *const texts[] = { "general.architecture", "chimera.config", "chimera.tensors" };
    int bad = 0;
    for (int i = 0; i < COUNT(texts); i++) {
        int64_t at = gguf_find_key(f->g, texts[i]);
        if (at < 0 || gguf_get_kv_type(f->g, at) != GGUF_TEXT || !*gguf_get_val_str(f->g, at))
            bad += wrong(texts[i], "is no text here");
    }
    int64_t at = gguf_find_key(f->g, "general.alignment");
    size_t alignment = at < 0 ? 32 : gguf_get_kv_type(f->g, at) == GGUF_U32 ? gguf_get_val_u32(f->g, at) : 0;
    if (alignment != gguf_get_alignment(f->g)) bad += wrong("general.alignment", "is another there");
    return bad;
}

static int compare(const char *path, const char *safetensors)
{
    struct opened f;
    struct st_file *floats;
    int64_t found = 0, there = 0;
    if (!open_gguf(&f, path)) return wrong(path, "llama.cpp does not read it");
    if (st_open(&floats, safetensors) != CHI_OK) return wrong(safetensors, fail_text());
    int bad = compare_pairs(&f);
    for (int64_t i = 0; i < gguf_get_n_tensors(f.g); i++) bad += compare_tensor(&f, i, floats, &found);
    while (st_at(floats, there)) there++;
    if (found != there) bad += wrong(path, "lacks tensors that safetensors has");
    printf("%lld tensors, %lld pairs, %d wrong\n", (long long)gguf_get_n_tensors(f.g),
           (long long)gguf_get_n_kv(f.g), bad);
    st_close(floats);
    gguf_free(f.g);
    ggml_free(f.tensors);
    return bad != 0;
}

/* ---- a file of its making ------------------------------------------------------------------------------ */

struct made { FILE *lines; struct gguf_context *g; struct ggml_context *tensors; int type; };

/* Random weights of a matrix, by llama.cpp's own quantisation, in the place of t                           */
static struct ggml_tensor *quantised(struct made *m, const struct ggml_tensor *t, const char *name)
{
    int64_t cols = t->ne[0], rows = t->ne[1];
    float *w = xcalloc((size_t)(rows * cols), sizeof *w);
    for (int64_t i = 0; i < rows * cols; i++)
        w[i] = (float)rng_normal(SEED, RNG_BENCH, rng_who(name), (uint64_t)i);
    struct ggml_tensor *to = ggml_new_tensor_2d(m->tensors, m->type, cols, rows);
    ggml_quantize_chunk(m->type, w, ggml_get_data(to), 0, rows, cols, NULL);
    free(w);
    return to;
}

/* Its tensors, of which those in blocks are made anew, and their lines                                     */
static void add_tensors(struct made *m, const struct opened *f, const char *line)
{
    for (; *line; line += strcspn(line, "\n") + 1) {
        char name[136];
        int hash = (int)(strstr(line, "xxh3=") - line);
        snprintf(name, sizeof name, "%.*s", (int)strcspn(line, " "), line);
        struct ggml_tensor *t = ggml_get_tensor(f->tensors, name);
        if (t->type == GGML_TQ1_0 || t->type == GGML_TQ2_0) {
            t = quantised(m, t, name);
            ggml_set_name(t, name);
        }
        fprintf(m->lines, "%.*sxxh3=%016" PRIx64 "\n", hash, line, xxh3(ggml_get_data(t), ggml_nbytes(t)));
        gguf_add_tensor(m->g, t);
    }
}

/* The hash of the header, where "chimera.header_xxh3" has its 16 digits: after the type and the length     */
static int seal(const char *path, size_t header)
{
    static const char key[] = "chimera.header_xxh3";
    char *bytes = xcalloc(header, 1), hex[17];
    FILE *f = fopen(path, "r+b");
    size_t at = 0;
    if (!f || fread(bytes, 1, header, f) != header) return wrong(path, "cannot be read");
    while (at < header && memcmp(bytes + at, key, strlen(key)) != 0) at++;
    at += strlen(key) + 12;
    memset(bytes + at, '0', 16);
    snprintf(hex, sizeof hex, "%016" PRIx64, xxh3(bytes, header));
    bool ok = !fseek(f, (long)at, SEEK_SET) && fwrite(hex, 1, 16, f) == 16;
    free(bytes);
    return fclose(f) || !ok ? wrong(path, "cannot be sealed") : 0;
}

static int make(const char *path, const char *type, const char *out)
{
    struct opened f;
    char *lines = NULL;
    size_t n;
    if (!open_gguf(&f, path)) return wrong(path, "llama.cpp does not read it");
    struct made m = { .lines = open_memstream(&lines, &n), .g = gguf_init_empty(),
                      .tensors = ggml_init((struct ggml_memory){ 64 << 20, NULL, false }),
                      .type = strcmp(type, "tq1_0") ? GGML_TQ2_0 : GGML_TQ1_0 };
    gguf_set_kv(m.g, f.g);
    gguf_remove_key(m.g, "general.alignment");      /* its writer goes by 32 whatever this key says       */
    add_tensors(&m, &f, gguf_get_val_str(f.g, gguf_find_key(f.g, "chimera.tensors")));
    fclose(m.lines);
    gguf_set_val_str(m.g, "chimera.tensors", lines);
    bool written = gguf_write_to_file(m.g, out, false);
    int bad = written ? seal(out, gguf_get_meta_size(m.g)) : wrong(out, "is not written");
    gguf_free(m.g), gguf_free(f.g);
    ggml_free(m.tensors), ggml_free(f.tensors);
    free(lines);
    return bad;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !ggml_open(argv[1])) return 77;
    if (argc == 5 && !strcmp(argv[2], "compare")) return compare(argv[3], argv[4]);
    if (argc == 6 && !strcmp(argv[2], "write")) return make(argv[3], argv[4], argv[5]);
    fprintf(stderr, "usage: gguf_llama FOLDER compare FILE.gguf FLOATS.safetensors\n"
                    "       gguf_llama FOLDER write FILE.gguf tq1_0|tq2_0 OUT.gguf\n");
    return 2;
}
