/* stream.c - streams and their way through the model; see stream.h.              */
#include "stream.h"

#include "core.h"

#include <stdlib.h>
#include <string.h>

static int64_t ring_at(void)
{
    return round_up((int64_t)sizeof(struct stream), 64);
}

static int64_t state_at(int64_t window)
{
    return ring_at() + round_up(window * (int64_t)sizeof(int32_t), 64);
}

int64_t stream_bytes(int64_t state_bytes, int64_t window)
{
    return state_at(window) + round_up(state_bytes, 64);
}

struct stream *stream_init(void *block, int64_t state_bytes, int64_t window, uint64_t id)
{
    struct stream *s = block;
    memset(block, 0, (size_t)stream_bytes(state_bytes, window));
    s->state_bytes = state_bytes;
    s->window = window;
    s->id = id;
    s->next = -1;
    return s;
}

void stream_copy(struct stream *to, const struct stream *from)
{
    memcpy(to, from, (size_t)stream_bytes(from->state_bytes, from->window));
}

unsigned char *stream_state(const struct stream *s)
{
    return (unsigned char *)(uintptr_t)s + state_at(s->window);
}

int32_t *stream_ring(const struct stream *s)
{
    return (int32_t *)(void *)((unsigned char *)(uintptr_t)s + ring_at());
}

void stream_take(struct stream *s, int32_t token)
{
    if (s->window) stream_ring(s)[s->total % s->window] = token;
    s->kept = min_i64(s->kept + 1, s->window);
    s->total++;
    s->next = token;
}

/* ---- through the model ------------------------------------------------------- */

static struct model_segment segment(const struct stream *s, const int32_t *token, int64_t rows)
{
    return (struct model_segment){ .tokens = token, .rows = rows, .pos = s->pos, .stream = s->id,
                                   .fresh = s->pos == 0, .state = stream_state(s) };
}

struct feed {                           /* what is left of one text                */
    struct stream *s;
    int32_t first;                      /* the stream's next, or text[0]           */
    int64_t done, rows;                 /* rows to go in; the text's last one waits */
    const int32_t *token;               /* rows 1.. of a stream that has a next    */
    bool    had_next;
};

/* Rows of f from where it stands, at most room.  A next token from before lies alone,
 * not before the text, and is a call of its own.                                 */
static struct model_segment some_rows(struct feed *f, int64_t room)
{
    if (f->had_next && f->done == 0) return segment(f->s, &f->first, 1);
    int64_t at = f->done - (f->had_next ? 1 : 0);
    return segment(f->s, f->token + at, min_i64(room, f->rows - f->done));
}

static void begin(struct feed *f, struct stream *s, const struct stream_text *text)
{
    bool had = s->next >= 0;
    *f = (struct feed){ .s = s, .first = s->next, .token = text->token, .had_next = had };
    f->rows = text->n ? text->n - 1 + (had ? 1 : 0) : 0;
    for (int64_t i = 0; i < text->n; i++) stream_take(s, text->token[i]);
}

static chi_status feed_all(struct model *m, struct feed *f, struct model_segment *seg, int64_t *of,
                           int64_t n, float *hidden, bool (*stop)(void), int64_t *rows)
{
    for (;;) {
        int64_t n_seg = 0, room = model_max_rows(m);
        for (int64_t i = 0; i < n && room && n_seg < model_max_segs(m); i++) {
            if (f[i].done == f[i].rows) continue;
            of[n_seg] = i;
            seg[n_seg] = some_rows(&f[i], room);
            room -= seg[n_seg++].rows;
        }
        if (!n_seg) return CHI_OK;
        if (stop && stop()) return fail(CHI_EREFUSED, "interrupted while reading the prompt");
        TRY(model_forward(m, seg, n_seg, hidden));
        for (int64_t j = 0; j < n_seg; j++) {
            f[of[j]].done += seg[j].rows;
            f[of[j]].s->pos += seg[j].rows;
            *rows += seg[j].rows;
        }
    }
}

chi_status streams_feed(struct model *m, struct stream *const *s, const struct stream_text *text,
                        int64_t n, float *hidden, bool (*stop)(void), int64_t *rows)
{
    struct feed *f = xcalloc((size_t)n, sizeof *f);
    struct model_segment *seg = xcalloc((size_t)n, sizeof *seg);
    int64_t *of = xcalloc((size_t)n, sizeof *of);
    for (int64_t i = 0; i < n; i++) begin(&f[i], s[i], &text[i]);
    *rows = 0;
    chi_status status = feed_all(m, f, seg, of, n, hidden, stop, rows);
    free(of);
    free(seg);
    free(f);
    return status;
}

chi_status streams_step(struct model *m, struct stream *const *s, int64_t n,
                        float *hidden, const struct shortlist *some, float *logits)
{
    enum { FEW = 64 };
    struct model_segment seg[FEW] = { { 0 } };
    if (n < 1 || n > FEW)
        return fail(CHI_EBUG, "streams_step: %lld streams, must be 1..%d", (long long)n, FEW);
    for (int64_t i = 0; i < n; i++) seg[i] = segment(s[i], &s[i]->next, 1);
    TRY(model_forward(m, seg, n, hidden));
    for (int64_t i = 0; i < n; i++) s[i]->pos++;
    return some ? model_logits_of(m, hidden, n, some, logits) : model_logits(m, hidden, n, logits);
}
