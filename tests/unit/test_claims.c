/* test_claims.c - what the header of a packed model says of its numbers is computed again: `values`, model_hash and
 * the value classes.  Each file here is changed and sealed anew, so that no hash of header or tensor tells.    */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core.h"
#include "fs.h"
#include "init.h"
#include "packed.h"
#include "run.h"

static char dir[64];

static const char conf[] =
    "[run]\nthreads = 1\n[model]\nhidden_size = 64\nnum_hidden_layers = 2\nvocab_size = 41\nlayer_pattern = GD\n"
    "ffn_pattern = MOE\n[layer.GD]\nuse = gated_deltanet\nnum_heads = 2\nhead_dim = 32\n[layer.MOE]\nuse = moe\n"
    "moe_intermediate_size = 32\nn_routed_experts = 3\n[linear]\nquantizer = ternary\n[linear.embed]\nquantizer = int8\n";

static void setup(void)
{
    strcpy(dir, "/tmp/chi-claims-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert_eq(chdir(dir), 0);
    setenv("XDG_CACHE_HOME", dir, 1);
    if (!freopen("messages", "w", stderr)) cr_assert_fail("stderr");
    cr_assert_eq(fs_write_atomic("m.ini", conf, sizeof conf - 1), CHI_OK, "%s", fail_text());
    int signal;
    const struct init_request q = { .subject = "m.ini", .out = "m" };
    cr_assert_eq(init_model(&q, &signal), CHI_OK, "%s", fail_text());
}

static void teardown(void)
{
    cr_assert_eq(fs_remove_tree(dir), CHI_OK);
}

TestSuite(claims, .init = setup, .fini = teardown);

/* ---- a file in memory, changed -------------------------------------------------------------------------------- */

struct file { const char *path; unsigned char *bytes; int64_t n, head; };

static struct file load_file(const char *path)
{
    struct file f = { .path = path };
    cr_assert_eq(fs_read(path, &f.bytes, &f.n), CHI_OK, "%s", fail_text());
    for (int i = 0; i < 8; i++) f.head |= (int64_t)f.bytes[i] << 8 * i;
    f.head += 8;
    return f;
}

static void save_file(struct file *f)
{
    cr_assert(st_seal(f->bytes, f->n));
    cr_assert_eq(fs_write_atomic(f->path, f->bytes, f->n), CHI_OK, "%s", fail_text());
    mem_free(f->bytes);
}

/* The text behind the first mark in the header                                                                     */
static unsigned char *behind(const struct file *f, const char *mark)
{
    unsigned char *at = memmem(f->bytes, (size_t)f->head, mark, strlen(mark));
    cr_assert(at, "%s", mark);
    return at + strlen(mark);
}

static void put_hash(unsigned char *at, uint64_t hash)
{
    char hex[20];
    snprintf(hex, sizeof hex, "%016" PRIx64, hash);
    memcpy(at, hex, 16);
}

/* What a claim is of a file that has another, both claims being of 16 digits */
static void claim(const char *path, const char *key, uint64_t hash)
{
    char *mark = xprintf("\"%s\":\"", key);
    struct file f = load_file(path);
    put_hash(behind(&f, mark), hash);
    save_file(&f);
    free(mark);
}

static uint64_t model_hash_with(uint64_t values)
{
    struct packed *p;
    uint64_t hash;
    cr_assert_eq(packed_open(&p, "m"), CHI_OK, "%s", fail_text());
    cr_assert_eq(packed_model_hash(packed_manifest(p), values, &hash), CHI_OK, "%s", fail_text());
    packed_close(p);
    return hash;
}

/* The first byte of a tensor, and the line of its hash */
static void change_byte(const char *path, const char *name, unsigned char bits)
{
    struct packed *p;
    cr_assert_eq(packed_open(&p, "m"), CHI_OK, "%s", fail_text());
    const struct packed_tensor *t = packed_find(p, name);
    cr_assert(t, "%s", name);
    struct file f = load_file(path);
    const struct st_tensor *first = st_at(packed_file(p, packed_is_expert(name)), 0);
    unsigned char *at = f.bytes + f.head + ((const unsigned char *)t->t->data - (const unsigned char *)first->data);
    *at ^= bits;
    char *mark = xprintf("\"%s\":\"", name);
    unsigned char *hex = behind(&f, mark);
    while (memcmp(hex, "xxh3=", 5) != 0) hex++;
    put_hash(hex + 5, xxh3(at, (size_t)t->t->bytes));
    free(mark);
    packed_close(p);
    save_file(&f);
}

/* Status of opening it for use; NULL words: it must go well */
static void opens(const char *verify, const char *words)
{
    struct spec *spec;
    struct model *m;
    char *override[] = { xprintf("run.verify=%s", verify) };
    chi_status s = run_load_model("m", override, 1, NULL, 0, 1, 1, &spec, &m);
    cr_expect_eq(s, words ? CHI_EDATA : CHI_OK, "%s: %s", verify, s ? fail_text() : "opened");
    if (words) cr_expect(s == CHI_OK || strstr(fail_text(), words), "%s: %s lacks: %s", verify, fail_text(), words);
    if (s == CHI_OK) model_close(m), spec_close(spec);
    free(override[0]);
}

static const char *const levels[] = { "no", "once", "full" };

/* ---- */

Test(claims, a_whole_file_keeps_them)
{
    for (int i = 0; i < COUNT(levels); i++) opens(levels[i], NULL);
}

Test(claims, model_hash_is_of_manifest_and_values)
{
    claim("m/model.b158", "model_hash", 1);
    claim("m/model_experts.b158", "model_hash", 1);
    for (int i = 0; i < COUNT(levels); i++) opens(levels[i],
                                                  "model.b158: its model_hash is 0000000000000001, that of its "
                                                  "manifest");
}

Test(claims, values_are_part_of_the_model_hash)
{
    claim("m/model.b158", "values", 2);
    for (int i = 0; i < COUNT(levels); i++) opens(levels[i], "its model_hash is ");
}

Test(claims, values_are_of_the_numbers)
{
    uint64_t hash = model_hash_with(2);
    claim("m/model.b158", "values", 2);
    claim("m/model.b158", "model_hash", hash);
    claim("m/model_experts.b158", "model_hash", hash);
    opens("no", NULL);
    opens("once", "model.b158: its values is 0000000000000002, that of the numbers in it is ");
    opens("full", "model.b158: its values is 0000000000000002, that of the numbers in it is ");
}

/* Another trit, another int8, another float: each fits its hash and its class */
Test(claims, every_number_counts)
{
    static const struct { const char *path, *name; unsigned char bits; } c[] = {
        { "m/model.b158", "embed.weight", 1 }, { "m/model.b158", "final_norm.weight", 1 },
        { "m/model_experts.b158", "layers.1.ffn.experts.2.down_proj.weight", 0 },
    };
    for (int i = 0; i < COUNT(c); i++) {
        unsigned char bits = c[i].bits;
        for (unsigned char b = 1; !bits && b; b = (unsigned char)(b << 1)) {  /* a trit that stays one */
            change_byte(c[i].path, c[i].name, b);
            opens("no", NULL);
            struct spec *spec;
            struct model *m;
            char *full[] = { "run.verify=full" };
            cr_assert_eq(run_load_model("m", full, 1, NULL, 0, 1, 1, &spec, &m), CHI_EDATA);
            bool other = strstr(fail_text(), "that of the numbers in it");
            cr_expect(other || strstr(fail_text(), "that are no ternary weights"), "%s", fail_text());
            bits = other ? b : 0;
            change_byte(c[i].path, c[i].name, b);
        }
        cr_assert(bits, "%s: no bit makes another trit", c[i].name);
        change_byte(c[i].path, c[i].name, bits);
        opens("full", "its values is ");
        opens("once", "its values is ");
        change_byte(c[i].path, c[i].name, bits);
        opens("full", NULL);
    }
}

/* ternary2 has no fourth trit */
Test(claims, a_code_of_no_trit)
{
    struct packed *p;
    cr_assert_eq(packed_open(&p, "m"), CHI_OK, "%s", fail_text());
    const struct packed_tensor *t = packed_find(p, "layers.0.mixer.q_proj.weight");
    cr_assert_str_eq(t->encoding, "ternary2");
    unsigned char first = *(const unsigned char *)t->t->data;
    packed_close(p);
    change_byte("m/model.b158", "layers.0.mixer.q_proj.weight", (unsigned char)(first ^ 0xff));
    opens("no", NULL);
    opens("once", "layers.0.mixer.q_proj.weight holds numbers that are no ternary weights");
}
