/* test_gguf.c - GGUF files: what is written is read, nothing that was changed passes for whole, halves.      */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "fs.h"
#include "gguf.h"
#include "half.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* A file with a tensor of each type; caller frees                                                           */
static unsigned char *small_file(size_t *n)
{
    char *bytes = NULL;
    unsigned char data[1024];
    FILE *f = open_memstream(&bytes, n);
    struct gguf_writer *w = gguf_create(f);
    for (int i = 0; i < COUNT(data); i++) data[i] = (unsigned char)(i * 7 + 1);
    gguf_put_text(w, "general.architecture", "chimera");
    gguf_put_text(w, "chimera.config", "[model]\n");
    gguf_put_u32(w, "chimera.block_count", 3);
    gguf_add(w, "one", GGUF_F32, 1, (int64_t[]){ 5 });
    gguf_add(w, "two", GGUF_F16, 2, (int64_t[]){ 3, 7 });
    gguf_add(w, "three", GGUF_TQ1_0, 2, (int64_t[]){ 2, 256 });
    gguf_add(w, "four", GGUF_TQ2_0, 3, (int64_t[]){ 1, 2, 512 });
    cr_assert_eq(gguf_begin(w), CHI_OK, "%s", fail_text());
    cr_assert_eq(gguf_write(w, data, 20), CHI_OK);
    cr_assert_eq(gguf_write(w, data, 42), CHI_OK);
    cr_assert_eq(gguf_write(w, data, 108), CHI_OK);
    cr_assert_eq(gguf_write(w, data, 264), CHI_OK);
    cr_assert_eq(gguf_finish(w), CHI_OK, "%s", fail_text());
    fclose(f);
    return (unsigned char *)bytes;
}

Test(gguf, what_is_written_is_read)
{
    size_t n;
    unsigned char *bytes = small_file(&n);
    struct gguf_file *f;
    cr_assert_eq(gguf_open_bytes(&f, "file", bytes, (int64_t)n), CHI_OK, "%s", fail_text());
    cr_assert_eq(gguf_check_seal(f), CHI_OK, "%s", fail_text());
    cr_assert_str_eq(gguf_text(f, "chimera.config"), "[model]\n");
    cr_assert_null(gguf_text(f, "chimera.block_count"));
    const struct gguf_tensor *t = gguf_find(f, "four");
    cr_assert(t && t == gguf_at(f, 3) && !gguf_at(f, 4) && !gguf_find(f, "five"));
    cr_assert(t->n_dim == 3 && t->dim[0] == 1 && t->dim[1] == 2 && t->dim[2] == 512 && t->bytes == 264
              && t->data[1] == 8);
    cr_assert_eq((t->data - bytes) % 64, 0);
    gguf_close(f);
    free(bytes);
}

/* Is this what small_file() wrote, as far as a reader can tell?                                              */
static bool passes(const unsigned char *bytes, size_t n)
{
    struct gguf_file *f;
    if (gguf_open_bytes(&f, "file", bytes, (int64_t)n) != CHI_OK) return false;
    bool sealed = gguf_check_seal(f) == CHI_OK;
    gguf_close(f);
    return sealed;
}

/* Each bit of the header and of the zeros between tensors; a tensor's own bytes have a hash of their own       */
Test(gguf, no_flip_of_a_bit_and_no_cut_passes)
{
    size_t n;
    unsigned char *bytes = small_file(&n);
    struct gguf_file *f;
    bool *own = xcalloc(n, sizeof *own);
    const struct gguf_tensor *t;
    cr_assert_eq(gguf_open_bytes(&f, "file", bytes, (int64_t)n), CHI_OK);
    for (int64_t i = 0; (t = gguf_at(f, i)); i++) memset(own + (t->data - bytes), 1, (size_t)t->bytes);
    gguf_close(f);
    for (size_t i = 0; i < n; i++)
        for (int bit = 0; bit < 8 && !own[i]; bit++) {
            bytes[i] ^= (unsigned char)(1 << bit);
            cr_assert(!passes(bytes, n), "bit %d of byte %zu may be anything", bit, i);
            bytes[i] ^= (unsigned char)(1 << bit);
        }
    cr_assert(passes(bytes, n));
    for (size_t i = 0; i < n; i++) {
        unsigned char *cut = malloc(i + 1);             /* so that a sanitizer sees a byte read behind it      */
        memcpy(cut, bytes, i);
        bool whole = i >= n - 56 && i == n - 56;        /* without the zeros at the end all tensors are there   */
        cr_assert_eq(passes(cut, i), whole, "the first %zu of %zu bytes", i, n);
        free(cut);
    }
    free(own);
    free(bytes);
}

Test(gguf, the_corpus_is_harmless)
{
    const char *src = getenv("srcdir");
    char **name, *folder = fs_join(src ? src : ".", "tests/data/fuzz/gguf");
    int64_t n, bytes;
    cr_assert_eq(fs_list(folder, &name, &n), CHI_OK, "%s", fail_text());
    cr_assert_gt(n, 8);
    for (int64_t i = 0; i < n; i++) {
        unsigned char *data;
        char *path = fs_join(folder, name[i]);
        cr_assert_eq(fs_read(path, &data, &bytes), CHI_OK, "%s", fail_text());
        LLVMFuzzerTestOneInput(data, (size_t)bytes);
        mem_free(data);
        free(path);
    }
    fs_list_free(name, n);
    free(folder);
}

/* The hand-made seeds reach what they were made for                                                           */
Test(gguf, seeds)
{
    static const struct { const char *name, *words; } seed[] = {
        { "empty", "no GGUF file" }, { "short", "no GGUF file" }, { "nothing", NULL }, { "one", NULL },
        { "scalars", NULL },
        { "arrays", NULL }, { "trits", NULL }, { "aligned", NULL }, { "version", "GGUF version 2" },
        { "big_endian", "big-endian" }, { "many_pairs", "promises" }, { "many_tensors", "promises" },
        { "twice", "twice" },
        { "bool", "truth value" }, { "kind", "has type 13" }, { "deep", "in 4 others" },
        { "long_array", "end inside" },
        { "long_text", "end inside" }, { "no_key", "a key has 0 bytes" }, { "nul", "NUL byte" },
        { "blank", "byte 0x20" },
        { "alignment", "no power of 2" }, { "alignment_text", "no power of 2" }, { "same_tensor", "twice" },
        { "zero", "dimension 1 is 0" }, { "no_dims", "has 0 dimensions" }, { "five_dims", "has 5 dimensions" },
        { "overflow", "overflows" }, { "bytes_overflow", "wants a multiple" },
        { "end_overflow", "promises 64 and 9223372036854775804 of tensors" }, { "block", "wants a multiple of 256" },
        { "q4", "has type 2" }, { "hole", "lies at byte 32" }, { "cut", "copied incompletely" },
        { "appended", "something was appended" }, { "dirty", "are not zeros" },
    };
    const char *src = getenv("srcdir");
    for (int64_t i = 0; i < COUNT(seed); i++) {
        unsigned char *b;
        int64_t n;
        struct gguf_file *f;
        char *path = xprintf("%s/tests/data/fuzz/gguf/%s", src ? src : ".", seed[i].name);
        cr_assert_eq(fs_read(path, &b, &n), CHI_OK, "%s", fail_text());
        chi_status s = gguf_open_bytes(&f, "seed", b, n);
        cr_expect_eq(s, seed[i].words ? CHI_EDATA : CHI_OK, "%s: %s", seed[i].name, fail_text());
        if (seed[i].words) cr_expect(strstr(fail_text(), seed[i].words), "%s: %s", seed[i].name, fail_text());
        gguf_close(f);
        mem_free(b);
        free(path);
    }
}

/* All 65536 halves, and floats beside them that are none                                                      */
Test(gguf, halves)
{
    for (uint32_t h = 0; h < 65536; h++) {
        int e = (int)(h >> 10 & 31), f = (int)(h & 1023);
        float v = half_value((uint16_t)h);
        uint16_t back;
        if (e == 31) {
            cr_assert(f ? isnan(v) : isinf(v));
            continue;
        }
        double want = (e ? ldexp(1024 + f, e - 25) : ldexp(f, -24)) * (h & 0x8000 ? -1 : 1);
        cr_assert(v == (float)want && !signbit(v) == !signbit(want), "half %04x", h);
        cr_assert(half_exact(v, &back) && back == h, "half %04x", h);
        cr_assert(!half_exact(nextafterf(v, 1e30f), &back), "a float beside half %04x", h);
    }
    uint16_t h;
    cr_assert(!half_exact(65536.0f, &h) && !half_exact(0x1p-25f, &h) && !half_exact(1e-30f, &h));
}
