/* test_fuzz.c - the corpora of the fuzz targets, once through each: what a fuzzer has found stays found.  */
#include <criterion/criterion.h>

#include "core.h"
#include "fs.h"
#include "packed.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int64_t replay(const char *corpus)
{
    const char *source = getenv("srcdir");
    char **name, *folder = xprintf("%s/tests/data/fuzz/%s", source ? source : ".", corpus);
    int64_t n;
    cr_assert_eq(fs_list(folder, &name, &n), CHI_OK, "%s", fail_text());
    for (int64_t i = 0; i < n; i++) {
        unsigned char *b;
        int64_t bytes;
        char *path = fs_join(folder, name[i]);
        cr_assert_eq(fs_read(path, &b, &bytes), CHI_OK, "%s", fail_text());
        cr_expect_eq(LLVMFuzzerTestOneInput(b, (size_t)bytes), 0, "%s", name[i]);
        mem_free(b);
        free(path);
    }
    fs_list_free(name, n);
    free(folder);
    return n;
}

Test(fuzz, packed)
{
    cr_expect_geq(replay("packed"), 20);
}

/* The hand-made seeds reach what they were made for                                                       */
Test(fuzz, seeds)
{
    static const struct { const char *name, *words; } seed[] = {
        { "empty", "too short" }, { "short", "too short" }, { "huge", "header length" }, { "long", "promises" },
        { "no_json", "not with '{'" }, { "twice", "twice" }, { "deep", "deep" }, { "overlap", "they overlap" },
        { "hole", "a hole" }, { "appended", "something was appended" }, { "cut", "copied incompletely" },
        { "overflow", "overflows 64 bits" }, { "meta_number", "is no string" }, { "f32", "no packed model" },
        { "packed", NULL }, { "packed_pad", "is not all zeros" }, { "packed_no_line", "says nothing of tensor" },
        { "packed_other_format", "chimera.packed 9" }, { "packed_shape", "wanted is" },
        { "packed_name", "wanted is" },
        { "packed_hash", "wanted is" }, { "packed_experts", "holds the experts of" },
        { "packed_names_experts", "which is missing" }, { "packed_names_folder", "the name of a file beside it" },
        { "packed_unaligned", "multiple of 64" },
    };
    const char *source = getenv("srcdir");
    for (int64_t i = 0; i < COUNT(seed); i++) {
        char *path = xprintf("%s/tests/data/fuzz/packed/%s", source ? source : ".", seed[i].name);
        unsigned char *b;
        int64_t n;
        struct st_file *f;
        struct packed *p = NULL;
        cr_assert_eq(fs_read(path, &b, &n), CHI_OK, "%s", fail_text());
        st_seal(b, n);
        chi_status s = st_open_bytes(&f, "seed", b, n);
        if (s == CHI_OK) s = packed_from(&p, f, NULL);
        cr_expect_eq(s, seed[i].words ? CHI_EDATA : CHI_OK, "%s: %s", seed[i].name, fail_text());
        if (seed[i].words) cr_expect(strstr(fail_text(), seed[i].words), "%s: %s", seed[i].name, fail_text());
        packed_close(p);
        mem_free(b);
        free(path);
    }
}
