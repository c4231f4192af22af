/* test_safetensors.c - round trips, and every damage that a small file can have.   */
#include "core.h"
#include "safetensors.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[SCRATCH_SIZE], path[SCRATCH_SIZE + 8];
static const double f64[2] = { 1.5, -2.25 };
static const float  f32[6] = { 0, 1, 2, 3, 4, 5 };
static const int8_t i8[3] = { -1, 0, 1 };

static void setup(void)
{
    make_scratch(dir);
    snprintf(path, sizeof path, "%s/file", dir);
}

static void teardown(void)
{
    unlink(path);
    rmdir(dir);
}

static void put(const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    cr_assert(f && fwrite(bytes, 1, n, f) == n && fclose(f) == 0);
}

/* A file with the given JSON and n bytes of data; claim: header length, -1: true   */
static void put_json(const char *json, int64_t data, int64_t claim)
{
    size_t len = strlen(json), total = 8 + len + (size_t)data;
    unsigned char *b = xcalloc(total, 1);
    uint64_t n = claim == -1 ? len : (uint64_t)claim;
    for (int i = 0; i < 8; i++) b[i] = (unsigned char)(n >> 8 * i);
    memcpy(b + 8, json, len);
    put(b, total);
    free(b);
}

static void write_sample(void)
{
    FILE *f = fopen(path, "wb");
    struct st_writer *w = st_create(f);
    st_put_meta(w, "kind", "a \"test\"\n");
    st_add(w, "wide", ST_F64, 1, (int64_t[]){ 2 });
    st_add(w, "m\xc3\xa4trix", ST_F32, 2, (int64_t[]){ 2, 3 });
    st_add(w, "scalar", ST_F32, 0, NULL);
    st_add(w, "small", ST_I8, 1, (int64_t[]){ 3 });
    st_add(w, "empty", ST_U8, 2, (int64_t[]){ 0, 9 });
    cr_assert_eq(st_begin(w), CHI_OK);
    cr_assert_eq(ftell(f) % 64, 0, "data begins at %ld", ftell(f));
    cr_assert_eq(st_write(w, f64, sizeof f64), CHI_OK);
    cr_assert_eq(st_write(w, f32, sizeof f32), CHI_OK);
    cr_assert_eq(st_write(w, f32 + 5, 4), CHI_OK);
    cr_assert_eq(st_write(w, i8, sizeof i8), CHI_OK);
    cr_assert_eq(st_finish(w), CHI_OK);
    fclose(f);
}

TestSuite(safetensors, .init = setup, .fini = teardown);

Test(safetensors, round_trip)
{
    struct st_file *f;
    write_sample();
    cr_assert_eq(st_open(&f, path), CHI_OK, "%s", fail_text());
    const struct st_tensor *t = st_find(f, "m\xc3\xa4trix");
    cr_assert(t && t->dtype == ST_F32 && t->n_dim == 2 && t->dim[0] == 2 && t->dim[1] == 3 && t->n == 6);
    cr_assert_eq(memcmp(t->data, f32, sizeof f32), 0);
    t = st_find(f, "scalar");
    cr_assert(t && t->n_dim == 0 && t->n == 1 && *(const float *)t->data == 5);
    t = st_find(f, "small");
    cr_assert(t && t->bytes == 3 && !memcmp(t->data, i8, 3));
    cr_assert(st_find(f, "empty") && st_find(f, "empty")->bytes == 0);
    cr_assert_null(st_find(f, "absent"));
    cr_assert_str_eq(st_meta(f, "kind"), "a \"test\"\n");
    cr_assert_null(st_meta(f, "absent"));
    cr_assert_str_eq(st_at(f, 0)->name, "wide");
    cr_assert(st_at(f, 4) && !st_at(f, 5) && !st_at(f, -1));
    st_close(f);
}

Test(safetensors, writer_refuses_misuse)
{
    FILE *f = fopen(path, "wb");
    struct st_writer *w = st_create(f);
    st_add(w, "a", ST_I8, 1, (int64_t[]){ 3 });
    st_add(w, "b", ST_F32, 1, (int64_t[]){ 1 });            /* would be unaligned    */
    cr_assert_eq(st_begin(w), CHI_EBUG);
    cr_assert_eq(st_finish(w), CHI_EBUG);
    w = st_create(f);
    st_add(w, "a", ST_F32, 1, (int64_t[]){ 3 });
    cr_assert_eq(st_begin(w), CHI_OK);
    cr_assert_eq(st_write(w, f32, 8), CHI_OK);
    cr_assert_eq(st_finish(w), CHI_EBUG);                    /* 4 bytes are missing   */
    w = st_create(f);
    st_add(w, "a", ST_F32, 2, (int64_t[]){ INT64_MAX, 2 });
    cr_assert_eq(st_finish(w), CHI_EBUG);
    fclose(f);
}

static unsigned char *sample(size_t *n)
{
    unsigned char *b = xcalloc(4096, 1);
    write_sample();
    FILE *f = fopen(path, "rb");
    *n = fread(b, 1, 4096, f);
    fclose(f);
    return b;
}

Test(safetensors, every_truncation_is_refused)
{
    size_t n;
    unsigned char *b = sample(&n);
    for (size_t k = 0; k < n; k++) {
        struct st_file *f;
        put(b, k);
        cr_assert_eq(st_open(&f, path), CHI_EDATA, "%zu of %zu bytes", k, n);
        cr_assert(strstr(fail_text(), path), "%s", fail_text());
        cr_assert_null(f);
    }
    put(b, n - 1);
    struct st_file *f;
    cr_assert_eq(st_open(&f, path), CHI_EDATA);
    cr_assert(strstr(fail_text(), "copied incompletely?"), "%s", fail_text());
    b[n] = 0;
    put(b, n + 1);
    cr_assert_eq(st_open(&f, path), CHI_EDATA, "an appended byte");
    free(b);
}

/* A flip is refused, or all sizes still agree and every byte can be read.          */
Test(safetensors, every_bit_flip)
{
    size_t n;
    unsigned char *b = sample(&n);
    int64_t refused = 0;
    uint64_t sum = 0;
    for (size_t bit = 0; bit < 8 * n; bit++) {
        struct st_file *f;
        b[bit / 8] ^= (unsigned char)(1u << bit % 8);
        put(b, n);
        chi_status s = st_open(&f, path);
        cr_assert(s == CHI_OK || s == CHI_EDATA, "bit %zu: status %d, %s", bit, s, fail_text());
        const struct st_tensor *t;
        for (int64_t i = 0; s == CHI_OK && (t = st_at(f, i)); i++) {
            cr_assert_eq(t->bytes, t->n * st_dtype_bytes(t->dtype));
            cr_assert_eq((uintptr_t)t->data % (uintptr_t)st_dtype_bytes(t->dtype), 0);
            for (int64_t k = 0; k < t->bytes; k++) sum += ((const unsigned char *)t->data)[k];
        }
        refused += s != CHI_OK;
        st_close(f);
        b[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    cr_assert_gt(refused, 1000);
    cr_assert_gt(sum, 0);
    free(b);
}

static void refused(const char *json, int64_t data, int64_t claim, const char *why)
{
    struct st_file *f;
    put_json(json, data, claim);
    chi_status s = st_open(&f, path);
    cr_expect_eq(s, CHI_EDATA, "accepted or wrong status %d: %.80s", s, json);
    cr_expect(strstr(fail_text(), why), "%.80s: \"%s\" is not in: %s", json, why, fail_text());
    st_close(f);
}

#define T(name, dtype, shape, at) "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" at "]}"

Test(safetensors, bad_header_lengths)
{
    static const char good[] = "{" T("a", "F32", "2", "0,8") "}";
    refused(good, 8, 0, "header length");
    refused(good, 8, -2, "header length");
    refused(good, 8, INT64_C(1) << 31, "header length");
    refused(good, 8, INT64_MIN, "header length");
    refused(good, 8, 100000001, "header length");
    refused(good, 8, 100000000, "copied incompletely?");
    struct st_file *f;
    put_json(good, 8, -1);
    cr_assert_eq(st_open(&f, path), CHI_OK, "%s", fail_text());
    st_close(f);
}

Test(safetensors, bad_headers)
{
    refused(" {" T("a", "F32", "2", "0,8") "}", 8, -1, "begins with byte 0x20");
    refused("{" T("a", "F32", "2", "0,8") "," T("b", "F32", "2", "4,12") "}", 12, -1, "overlap");
    refused("{" T("a", "F32", "2", "0,8") "," T("b", "F32", "2", "0,8") "}", 8, -1, "overlap");
    refused("{" T("a", "F32", "2", "0,8") "," T("b", "F32", "2", "12,20") "}", 20, -1, "hole");
    refused("{" T("a", "F32", "2", "4,12") "}", 12, -1, "hole");
    refused("{" T("a", "F32", "2", "0,8") "}", 9, -1, "appended");
    refused("{" T("a", "F99", "2", "0,8") "}", 8, -1, "dtype \"F99\"");
    refused("{" T("a", "F32", "3", "0,8") "}", 8, -1, "want 12");
    refused("{" T("a", "F32", "2", "0,8") "," T("a", "F32", "2", "8,16") "}", 16, -1, "twice");
    refused("{" T("a", "F32", "4294967296,4294967296", "0,8") "}", 8, -1, "overflows");
    refused("{" T("a", "F64", "2305843009213693952", "0,8") "}", 8, -1, "not an integer");
    refused("{" T("a", "F64", "4503599627370496,1024", "0,0") "}", 0, -1, "overflows");
    refused("{" T("a", "F32", "-2", "0,8") "}", 8, -1, "not an integer");
    refused("{" T("a", "F32", "2.5", "0,10") "}", 10, -1, "not an integer");
    refused("{" T("a", "F32", "2", "8,0") "}", 8, -1, "begin <= end");
    refused("{" T("a", "F32", "2", "0,8,8") "}", 8, -1, "data_offsets");
    refused("{" T("a", "F32", "2", "0,9007199254740993") "}", 8, -1, "data_offsets");
    refused("{" T("a", "F32", "1,1,1,1,1,1,1,1,1", "0,4") "}", 4, -1, "8 dimensions");
    refused("{" T("a", "F32", "[[[2]]]", "0,8") "}", 8, -1, "nested deeper");
    refused("{" T("a", "F32", "2", "0,8") "} x", 8, -1, "follows");
    refused("{" T("a", "F32", "2", "0,8") , 8, -1, "no JSON");
    refused("{" T("a\\u0000b", "F32", "2", "0,8") "}", 8, -1, "\\u0000");
    refused("{" T("a\xff", "F32", "2", "0,8") "}", 8, -1, "UTF-8");
    refused("{\"a\":7}", 8, -1, "no JSON object");
    refused("{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, -1, "dtype");
    refused("{\"a\":{\"dtype\":\"F32\",\"x\":1,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, -1, "unknown field");
    refused("{\"__metadata__\":{\"k\":7}}", 0, -1, "no string");
    refused("{\"__metadata__\":7}", 0, -1, "no JSON object");
}

/* What stands behind the digits would go where the seal is remembered                */
Test(safetensors, a_seal_is_16_digits)
{
    static const char *const json[] = { "{\"__metadata__\":{\"header_xxh3\":\"0000000000000000\"}}",
                                        "{\"__metadata__\":{\"header_xxh3\":\"0000000000000000 /x\\n\"}}" };
    for (int i = 0; i < 2; i++) {
        unsigned char bytes[128] = { 0 };
        int64_t n = (int64_t)strlen(json[i]);
        struct st_file *f;
        bytes[0] = (unsigned char)n;
        memcpy(bytes + 8, json[i], (size_t)n);
        cr_assert_eq(st_seal(bytes, 8 + n), i == 0);
        cr_assert_eq(st_open_bytes(&f, "sealed", bytes, 8 + n), CHI_OK, "%s", fail_text());
        cr_assert_eq(st_sealed(f), i == 0);
        st_close(f);
    }
}

Test(safetensors, unaligned_data_of_other_programs)
{
    struct st_file *f;
    put_json("{" T("a", "U8", "1", "0,1") "," T("b", "F32", "1", "1,5") "," T("c", "F64", "1", "5,13") "}", 13, -1);
    cr_assert_eq(st_open(&f, path), CHI_OK, "%s", fail_text());
    cr_assert_eq((uintptr_t)st_find(f, "b")->data % 4, 0);
    cr_assert_eq((uintptr_t)st_find(f, "c")->data % 8, 0);
    st_close(f);
}

Test(safetensors, a_pipe_is_refused_at_once)
{
    struct st_file *f;
    cr_assert_eq(mkfifo(path, 0666), 0);
    alarm(10);
    cr_assert_eq(st_open(&f, path), CHI_EDATA);
    alarm(0);
}

Test(safetensors, missing_file_and_folder)
{
    struct st_file *f;
    cr_assert_eq(st_open(&f, "/nowhere/x"), CHI_EDATA);
    cr_assert(strstr(fail_text(), "/nowhere/x"));
    cr_assert_eq(st_open(&f, "/tmp"), CHI_EDATA);
}
