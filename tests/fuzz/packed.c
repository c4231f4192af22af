/* packed.c - fuzz target of tensor files and packed models: any bytes end in a file whose tensors can be read to
 * the last byte, or in a refusal.  `make fuzz` runs it under libFuzzer; tests/unit/test_fuzz.c replays its corpus.
 *
 * Random bytes hardly ever have a fitting seal, so a header that begins like a sealed one is sealed first.  */
#include "packed.h"
#include "core.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static volatile uint64_t sink;

/* All bytes of all tensors, and the values of floats                                                       */
static void read_tensors(const struct st_file *f)
{
    const struct st_tensor *t;
    for (int64_t i = 0; (t = st_at(f, i)); i++) {
        const float *values;
        float *own;
        sink += xxh3(t->data, (size_t)t->bytes);
        if (st_find(f, t->name) != t) __builtin_trap();
        if (t->n && st_floats(f, t, &values, &own) == CHI_OK) {
            sink += xxh3(values, (size_t)t->n * sizeof *values);
            mem_free(own);
        }
    }
}

/* The other file of a pair: a header without tensors                                                        */
static struct st_file *partner(bool experts)
{
    static unsigned char *bytes[2];
    static int64_t n[2];
    static const char *const meta[2][5][2] = {
        { { "format", PACKED_FORMAT }, { "model_hash", "0000000000000000" }, { "config", "" }, { "manifest", "" },
          { "experts", "x_experts.b158" } },
        { { "format", PACKED_FORMAT }, { "model_hash", "0000000000000000" }, { "part", "experts" } } };
    struct st_file *f = NULL;
    if (!bytes[experts]) {
        struct st_writer *w = st_create(NULL);
        st_want_seal(w);
        for (int i = 0; i < 5 && meta[experts][i][0]; i++) st_put_meta(w, meta[experts][i][0], meta[experts][i][1]);
        st_put_meta(w, "values", "");
        if (st_header(w, &bytes[experts], &n[experts]) != CHI_OK) __builtin_trap();
    }
    if (st_open_bytes(&f, "partner", bytes[experts], n[experts]) != CHI_OK) __builtin_trap();
    return f;
}

static void read_packed(struct st_file *f, struct st_file *experts)
{
    struct packed *p;
    const struct packed_tensor *t;
    if (packed_from(&p, f, experts) != CHI_OK) return;
    sink += strlen(packed_config(p)) + strlen(packed_manifest(p));
    for (int64_t i = 0; (t = packed_at(p, i)); i++)
        if (packed_find(p, t->t->name) != t || (packed_check(t) != CHI_OK && !*fail_text())) __builtin_trap();
    packed_close(p);
}

/* Alone, with a file of experts, and as one                                                                  */
static void read_pairs(const unsigned char *bytes, int64_t n)
{
    struct st_file *f[3] = { NULL };
    for (int i = 0; i < 3; i++)
        if (st_open_bytes(&f[i], "input", bytes, n) != CHI_OK) __builtin_trap();
    read_packed(f[0], NULL);
    read_packed(f[1], partner(true));
    read_packed(partner(false), f[2]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct st_file *f;
    unsigned char *copy = mem_take(n ? n : 1, "input");         /* aligned, as a mapped file is              */
    if (!copy) return 0;
    if (n) memcpy(copy, data, n);
    bool sealed = st_seal(copy, (int64_t)n);
    if (st_open_bytes(&f, "input", copy, (int64_t)n) == CHI_OK) {
        if (sealed != st_sealed(f)) __builtin_trap();
        read_tensors(f);
        st_close(f);
        read_pairs(copy, (int64_t)n);
    } else if (!*fail_text())
        __builtin_trap();
    mem_free(copy);
    return 0;
}
