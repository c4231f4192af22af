/* Session files: back as they were, or refused.                                   */
#include "core.h"
#include "fs.h"
#include "scratch.h"
#include "session.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STATE = 100, WINDOW = 6 };

static char folder[SCRATCH_SIZE], path[SCRATCH_SIZE + 8];

static void set_up(void)
{
    make_scratch(folder);
    snprintf(path, sizeof path, "%s/s", folder);
}

static void tear_down(void)
{
    unlink(path);
    rmdir(folder);
}

static struct session_key key(void)
{
    return (struct session_key){ "layers.0.mixer = x, revision 1\nmodel.hidden_size = 64\n", 11, 22, 257 };
}

static struct stream *blank(int64_t window)
{
    void *block = mem_take((size_t)stream_bytes(STATE, window), "test");
    cr_assert_not_null(block);
    return stream_init(block, STATE, window, 0);
}

static struct stream *example(void)
{
    struct stream *s = blank(WINDOW);
    s->id = 0x123456789au;
    for (int32_t i = 0; i < 20; i++) stream_take(s, i * 7 % 257);
    s->pos = 19;
    s->n_waiting = 3;
    memcpy(s->waiting, "\xe2\x82g", 3);
    for (int i = 0; i < STATE; i++) stream_state(s)[i] = (unsigned char)(i * 37 + 1);
    return s;
}

static bool same(const struct stream *a, const struct stream *b)
{
    return !memcmp(a, b, (size_t)stream_bytes(STATE, WINDOW));
}

/* Loading must fail, say so in one line and leave the stream alone                */
static void refused(const struct session_key *k, const char *word)
{
    struct stream *s = blank(WINDOW), *before = blank(WINDOW);
    cr_assert_eq(session_load(path, s, k), CHI_EDATA);
    cr_assert_not_null(strstr(fail_text(), word), "%s", fail_text());
    cr_assert_null(strchr(fail_text(), '\n'), "%s", fail_text());
    cr_assert(same(s, before));
    mem_free(s);
    mem_free(before);
}

Test(session, comes_back_as_it_was, .init = set_up, .fini = tear_down)
{
    struct session_key k = key();
    struct stream *a = example(), *b = blank(WINDOW);
    cr_assert_eq(session_save(path, a, &k), CHI_OK);
    cr_assert_eq(session_load(path, b, &k), CHI_OK, "%s", fail_text());
    cr_assert(same(a, b));
    mem_free(a);
    mem_free(b);
}

Test(session, other_windows_keep_the_newest_tokens, .init = set_up, .fini = tear_down)
{
    struct session_key k = key();
    struct stream *a = example();
    cr_assert_eq(session_save(path, a, &k), CHI_OK);
    for (int64_t window = 0; window < 12; window++) {
        struct stream *b = blank(window);
        cr_assert_eq(session_load(path, b, &k), CHI_OK);
        cr_assert_eq(b->kept, min_i64(window, WINDOW));
        for (int64_t i = 20 - b->kept; i < 20; i++) cr_assert_eq(stream_ring(b)[i % window], i * 7 % 257);
        cr_assert(!memcmp(stream_state(a), stream_state(b), STATE));
        mem_free(b);
    }
    mem_free(a);
}

Test(session, every_truncation_and_flipped_bit_is_refused, .init = set_up, .fini = tear_down)
{
    struct session_key k = key();
    struct stream *a = example(), *s = blank(WINDOW), *empty = blank(WINDOW);
    unsigned char *bytes;
    int64_t n;
    cr_assert_eq(session_save(path, a, &k), CHI_OK);
    cr_assert_eq(fs_read(path, &bytes, &n), CHI_OK);
    for (int64_t bit = 0; bit < 8 * n; bit++) {
        FILE *f = fopen(path, "wb");
        bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        fwrite(bytes, 1, (size_t)n, f);
        fclose(f);
        bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        cr_assert_eq(session_load(path, s, &k), CHI_EDATA, "bit %d", (int)bit);
    }
    for (int64_t cut = 0; cut < n + 2; cut++) {
        FILE *f = fopen(path, "wb");
        fwrite(bytes, 1, (size_t)min_i64(cut, n), f);
        if (cut > n) fputc(0, f);
        fclose(f);
        cr_assert_eq(session_load(path, s, &k), cut == n ? CHI_OK : CHI_EDATA, "%d bytes", (int)cut);
        if (cut < n) cr_assert(same(s, empty));
        if (cut == n) cr_assert(same(s, a));
    }
    mem_free(bytes);
    mem_free(a);
    mem_free(s);
    mem_free(empty);
}

/* A file whose checksum is right but whose numbers lie                            */
Test(session, lies_behind_a_right_checksum_are_refused, .init = set_up, .fini = tear_down)
{
    static const int field[] = { 12, 32, 40, 48, 56, 72, 76 };
    struct session_key k = key();
    struct stream *a = example();
    unsigned char *bytes;
    int64_t n;
    cr_assert_eq(session_save(path, a, &k), CHI_OK);
    cr_assert_eq(fs_read(path, &bytes, &n), CHI_OK);
    for (size_t i = 0; i < sizeof field / sizeof *field; i++)
        for (int v = 0; v < 3; v++) {
            unsigned char old[8], *p = bytes + field[i];
            int size = field[i] == 12 || field[i] >= 72 ? 4 : 8;
            memcpy(old, p, 8);
            if (v < 2) memset(p, v ? 0xff : 0x7f, (size_t)size);
            else p[0]++, p[size - 1] ^= 0x80;
            uint64_t sum = xxh3(bytes, (size_t)n - 8);
            for (int b = 0; b < 8; b++) bytes[n - 8 + b] = (unsigned char)(sum >> 8 * b);
            FILE *f = fopen(path, "wb");
            fwrite(bytes, 1, (size_t)n, f);
            fclose(f);
            refused(&k, "damaged");
            memcpy(p, old, 8);
        }
    mem_free(bytes);
    mem_free(a);
}

Test(session, another_model_is_refused_with_what_differs, .init = set_up, .fini = tear_down)
{
    struct session_key k = key(), other = key();
    struct stream *a = example(), *wide;
    cr_assert_eq(session_save(path, a, &k), CHI_OK);
    other.weights++;
    refused(&other, "other weights");
    other = key();
    other.tokenizer++;
    refused(&other, "another tokenizer");
    other = key();
    other.text = "layers.0.mixer = x, revision 1\nmodel.hidden_size = 640\n";
    refused(&other, "has 'model.hidden_size = 64', this model has 'model.hidden_size = 640'");
    other.text = "layers.0.mixer = x, revision 1\n";
    refused(&other, "has 'model.hidden_size = 64', this model has 'nothing'");
    wide = stream_init(mem_take((size_t)stream_bytes(STATE + 4, WINDOW), "test"), STATE + 4, WINDOW, 0);
    cr_assert_eq(session_load(path, wide, &k), CHI_EDATA);
    mem_free(wide);
    mem_free(a);
}

Test(session, what_is_no_session_is_said_to_be_none, .init = set_up, .fini = tear_down)
{
    struct session_key k = key();
    struct stream *s = blank(WINDOW);
    FILE *f = fopen(path, "wb");
    fputs("[model]\nhidden_size = 64\n", f);
    fclose(f);
    refused(&k, "not a session");
    unlink(path);
    cr_assert_neq(session_load(path, s, &k), CHI_OK);
    mem_free(s);
}
