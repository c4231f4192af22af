/* Streams against a model of a few lines: packing, cuts, copies and the ring.  The
 * code under test is included, so that the model here takes the place of the real one. */
#include "../../core/src/stream.c"

#include <criterion/criterion.h>

/* State: u64 hash of all tokens so far.  hidden: its bits.                        */
struct model { int64_t max_rows, max_segs, calls; bool bad; };

int64_t model_max_rows(const struct model *m) { return m->max_rows; }
int64_t model_max_segs(const struct model *m) { return m->max_segs; }

chi_status model_forward(struct model *m, const struct model_segment *g, int64_t n, float *hidden)
{
    int64_t row = 0;
    m->calls++;
    m->bad |= n > m->max_segs;
    for (int64_t i = 0; i < n; i++) {
        uint64_t h;
        memcpy(&h, g[i].state, sizeof h);
        m->bad |= g[i].rows < 1 || g[i].fresh != (g[i].pos == 0) || (g[i].fresh && h)
               || (uintptr_t)g[i].state % 64;
        for (int64_t j = 0; j < i; j++) m->bad |= g[j].stream == g[i].stream;
        for (int64_t t = 0; t < g[i].rows; t++, row++) {
            h = (h ^ (uint64_t)(g[i].tokens[t] + 1)) * 0x9e3779b97f4a7c15u + g[i].stream
              + (uint64_t)(g[i].pos + t);
            hidden[row] = (float)(h >> 40);
        }
        memcpy(g[i].state, &h, sizeof h);
    }
    m->bad |= row > m->max_rows;
    return CHI_OK;
}

chi_status model_logits(struct model *m, const float *hidden, int64_t rows, float *logits)
{
    (void)m;
    memcpy(logits, hidden, (size_t)rows * sizeof *logits);
    return CHI_OK;
}

chi_status model_logits_of(struct model *m, const float *hidden, int64_t rows, const struct shortlist *some,
                           float *logits)
{
    (void)some;
    return model_logits(m, hidden, rows, logits);
}

enum { STATE = 8, WINDOW = 5, MANY = 7 };

static struct stream *new_stream(uint64_t id)
{
    void *block = mem_take((size_t)stream_bytes(STATE, WINDOW), "test");
    cr_assert_not_null(block);
    return stream_init(block, STATE, WINDOW, id);
}

static void feed(struct model *m, struct stream *s, const int32_t *token, int64_t n)
{
    float hidden[64];
    int64_t rows, left = s->total - s->pos;
    cr_assert_eq(streams_feed(m, &s, &(struct stream_text){ token, n }, 1, hidden, NULL, &rows), CHI_OK);
    cr_assert_eq(rows, n ? n - 1 + left : 0);
}

static void same(const struct stream *a, const struct stream *b)
{
    cr_assert(!memcmp(a, b, (size_t)stream_bytes(STATE, WINDOW)));
}

Test(stream, every_cut_and_chunk_gives_the_same_block)
{
    int32_t token[23];
    for (int i = 0; i < 23; i++) token[i] = i * i % 11;
    for (int64_t max = 1; max <= 24; max++) {
        struct model m = { max, 4, 0, false };
        struct stream *whole = new_stream(2);
        feed(&m, whole, token, 23);
        cr_assert_eq(whole->pos, 22);
        cr_assert_eq(whole->next, token[22]);
        cr_assert_eq(whole->kept, WINDOW);
        for (int64_t i = 18; i < 23; i++) cr_assert_eq(stream_ring(whole)[i % WINDOW], token[i]);
        for (int64_t cut = 0; cut <= 23; cut++) {
            struct stream *s = new_stream(2);
            feed(&m, s, token, cut);
            feed(&m, s, token + cut, 23 - cut);
            same(s, whole);
            mem_free(s);
        }
        cr_assert(!m.bad);
        mem_free(whole);
    }
}

Test(stream, packed_equals_alone_and_steps_equal_feeding)
{
    struct model m = { 6, 3, 0, false };
    float hidden[64], logits[MANY], one;
    int32_t token[MANY][16];
    struct stream *packed[MANY], *alone[MANY];
    struct stream_text text[MANY];
    int64_t rows;
    for (int i = 0; i < MANY; i++) {
        for (int j = 0; j < 16; j++) token[i][j] = (i * 5 + j * j) % 13;
        text[i] = (struct stream_text){ token[i], 1 + 2 * i };
        packed[i] = new_stream((uint64_t)i);
        alone[i] = new_stream((uint64_t)i);
    }
    cr_assert_eq(streams_feed(&m, packed, text, MANY, hidden, NULL, &rows), CHI_OK);
    cr_assert_eq(rows, 42);
    cr_assert_leq(m.calls, 14);
    for (int i = 0; i < MANY; i++) {
        feed(&m, alone[i], token[i], 1 + 2 * i);
        same(packed[i], alone[i]);
    }
    m.max_segs = MANY, m.max_rows = MANY;
    cr_assert_eq(streams_step(&m, packed, MANY, hidden, NULL, logits), CHI_OK);
    for (int i = 0; i < MANY; i++) {
        cr_assert_eq(streams_step(&m, &alone[i], 1, hidden, NULL, &one), CHI_OK);
        cr_assert_eq(one, logits[i]);
        stream_take(alone[i], 4);
        stream_take(packed[i], 4);
        same(packed[i], alone[i]);
    }
    cr_assert(!m.bad);
    for (int i = 0; i < MANY; i++) mem_free(packed[i]), mem_free(alone[i]);
}

Test(stream, a_copy_goes_its_own_way)
{
    struct model m = { 8, 2, 0, false };
    int32_t token[] = { 1, 2, 3, 4 };
    struct stream *a = new_stream(1), *b = new_stream(9);
    feed(&m, a, token, 4);
    stream_copy(b, a);
    same(a, b);
    feed(&m, b, token, 2);
    cr_assert_eq(a->pos, 3);
    cr_assert_eq(a->next, 4);
    feed(&m, a, token, 2);
    same(a, b);
    mem_free(a);
    mem_free(b);
}

static bool now(void) { return true; }

Test(stream, reading_can_be_interrupted)
{
    struct model m = { 8, 2, 0, false };
    int32_t token[] = { 1, 2, 3 };
    float hidden[8];
    int64_t rows;
    struct stream *s = new_stream(0);
    struct stream_text text = { token, 3 };
    cr_assert_eq(streams_feed(&m, &s, &text, 1, hidden, now, &rows), CHI_EREFUSED);
    cr_assert_eq(m.calls, 0);
    mem_free(s);
}
