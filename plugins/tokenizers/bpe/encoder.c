/* encoder.c - see encoder.h: special tokens are cut out first, what lies between them goes
 * through the steps, and each last piece is merged.                                           */
#include "encoder.h"

#include <string.h>

#include "regex.h"

struct encoding {
    const struct encoder *e;
    struct id_writer out;
    struct chi_scratch *work;
    const unsigned char *text, *shown;      /* the whole, and as expressions see it; NULL: as it is */
    int64_t wanted;                         /* bytes of work that a piece had needed          */
    bool failed;                            /* nobody knows where a match is                  */
};

/* ---- pieces -------------------------------------------------------------------------- */

static void merge(struct encoding *g, const unsigned char *text, int64_t n)
{
    for (int64_t i = 0, m; i < n; i += m) {
        m = n - i < PIECE_MAX ? n - i : PIECE_MAX;
        if (!bpe_merge(&g->e->v, text + i, m, &g->out, g->work) && bpe_scratch(m) > g->wanted)
            g->wanted = bpe_scratch(m);
    }
}

static void cut(struct encoding *g, int64_t step, const unsigned char *text, int64_t n);

static bool text_match(const struct step *s, const unsigned char *text, int64_t n, int64_t from, int64_t *begin,
                       int64_t *end)
{
    for (*begin = from; *begin + s->n <= n; ++*begin)
        if (!memcmp(text + *begin, s->text, (size_t)s->n)) {
            *end = *begin + s->n;
            return true;
        }
    return false;
}

static bool digit_match(const struct encoder *e, const unsigned char *text, int64_t n, int64_t from, int64_t *begin,
                        int64_t *end)
{
    for (int64_t i = from, bytes; i < n; i += bytes)
        if (bpe_class_at(e->class_of, text + i, n - i, &bytes) == CLASS_N) {
            *begin = i;
            *end = i + bytes;
            return true;
        }
    return false;
}

static bool match(struct encoding *g, const struct step *s, const unsigned char *text, int64_t n, int64_t from,
                  int64_t *begin, int64_t *end)
{
    if (s->kind == STEP_TEXT) return text_match(s, text, n, from, begin, end);
    if (s->kind == STEP_DIGITS) return digit_match(g->e, text, n, from, begin, end);
    int found = bpe_regex_match(s->code, g->shown ? g->shown + (text - g->text) : text, n, from, begin, end);
    g->failed |= found < 0;
    return found > 0;
}

/* A match follows another; what lies between two is a piece, too.  [done, from): a match whose
 * piece may go on                                                                             */
static void cut_at_matches(struct encoding *g, int64_t step, const unsigned char *text, int64_t n)
{
    const struct step *s = &g->e->step[step];
    int64_t from = 0, done = 0, begin, end;
    while (from < n && match(g, s, text, n, from, &begin, &end)) {
        bool waits = from > done, touches = waits && begin == from;
        if (waits && (s->cut == CUT_WITH_NEXT ? touches : !touches && s->cut == CUT_CONTIGUOUS)) {
            cut(g, step + 1, text + done, from - done);
            done = from;
        }
        bool goes_on = s->cut == CUT_WITH_PREVIOUS || (s->cut == CUT_CONTIGUOUS && touches);
        if (!goes_on && begin > done) cut(g, step + 1, text + done, begin - done);
        if (!goes_on) done = begin;
        if (s->cut == CUT_ISOLATED || s->cut == CUT_WITH_PREVIOUS) {
            cut(g, step + 1, text + done, end - done);
            done = end;
        }
        from = end;
    }
    if (s->cut == CUT_CONTIGUOUS && from > done && from < n) {
        cut(g, step + 1, text + done, from - done);
        done = from;
    }
    if (done < n) cut(g, step + 1, text + done, n - done);
}

static void cut(struct encoding *g, int64_t step, const unsigned char *text, int64_t n)
{
    const struct encoder *e = g->e;
    if (step == e->n_step) {
        merge(g, text, n);
    } else if (e->step[step].kind == STEP_RULE) {
        for (int64_t i = 0, m; i < n; i += m) {
            m = bpe_piece(e->step[step].rule, e->class_of, text + i, n - i);
            cut(g, step + 1, text + i, m);
        }
    } else {
        cut_at_matches(g, step, text, n);
    }
}

/* ---- special tokens -------------------------------------------------------------------- */

static bool looked_for(const struct encoder *e, const struct special *s)
{
    return (e->recognise || s->always) && s->id != e->end;
}

static const struct special *special_at(const struct encoder *e, bool late, const unsigned char *text, int64_t n)
{
    for (int64_t i = 0; i < e->n_special; i++) {
        const struct special *s = &e->special[i];
        if (s->late == late && looked_for(e, s) && s->n <= n && !memcmp(s->text, text, (size_t)s->n)) return s;
    }
    return NULL;
}

/* The text between special tokens, after them those that are late                              */
static void cut_at_special(struct encoding *g, bool late, const unsigned char *text, int64_t n)
{
    const struct encoder *e = g->e;
    int64_t done = 0;
    for (int64_t i = 0; i <= n; i++) {
        const struct special *s = i < n && e->begins[late][text[i]] ? special_at(e, late, text + i, n - i) : NULL;
        if (!s && i < n) continue;
        if (i > done && late) cut(g, 0, text + done, i - done);
        if (i > done && !late) cut_at_special(g, true, text + done, i - done);
        if (!s) break;
        bpe_put(&g->out, s->id);
        done = i + s->n;
        i = done - 1;
    }
}

/* Expressions match characters, and what is none is shown to them as one.  false: the work does not suffice   */
static bool show(struct encoding *g, const unsigned char *text, int64_t n)
{
    bool expressions = false;
    for (const struct step *s = g->e->step; s < g->e->step + g->e->n_step; s++) expressions |= s->kind == STEP_REGEX;
    if (!expressions || bpe_shown(text, n, NULL)) return true;
    g->wanted = bpe_scratch(n) + n + 64;          /* a take is rounded up   */
    if (!g->work || (int64_t)(g->work->size - g->work->used) < g->wanted) return false;
    unsigned char *to = chi_take(g->work, (size_t)n);
    bpe_shown(text, n, to);
    g->text = text;
    g->shown = to;
    g->wanted = 0;
    return true;
}

int64_t bpe_encode(const struct encoder *e, const unsigned char *text, int64_t n, int32_t *ids, int64_t max,
                   struct chi_scratch *work)
{
    struct encoding g = { .e = e, .out = { ids, max, 0, NULL }, .work = work };
    struct memo memo[MEMO];
    if (n > MEMO) g.out.memo = memset(memo, 0xff, sizeof memo);
    if (!show(&g, text, n)) return -g.wanted;
    if (e->n_special) cut_at_special(&g, false, text, n);
    else if (n) cut(&g, 0, text, n);
    if (g.failed) return CHI_NO_TOKENS;
    return g.wanted ? -g.wanted : g.out.n;
}

/* The longer ones first, so that the first that fits is the longest                         */
static void sort_special(struct encoder *e)
{
    for (int64_t i = 1; i < e->n_special; i++)
        for (int64_t j = i; j && e->special[j].n > e->special[j - 1].n; j--) {
            struct special s = e->special[j];
            e->special[j] = e->special[j - 1];
            e->special[j - 1] = s;
        }
}

chi_status bpe_encoder_ready(const struct chi_host *h, struct encoder *e)
{
    e->class_of = bpe_classes(h);
    if (!e->class_of) return CHI_ENOMEM;
    sort_special(e);
    for (int64_t i = 0; i < e->n_special; i++)
        if (looked_for(e, &e->special[i])) e->begins[e->special[i].late][(unsigned char)e->special[i].text[0]] = true;
    return CHI_OK;
}

/* ---- ops -------------------------------------------------------------------------------- */

int64_t bpe_ids(const void *self)
{
    return ((const struct encoder *)self)->ids;
}

int32_t bpe_end(const void *self)
{
    return ((const struct encoder *)self)->end;
}

int64_t bpe_encode_plain(const void *self, const unsigned char *text, int64_t n, int32_t *ids, int64_t max)
{
    return bpe_encode(self, text, n, ids, max, NULL);
}

int64_t bpe_encode_in(const void *self, const unsigned char *text, int64_t n, int32_t *ids, int64_t max,
                      struct chi_scratch *work)
{
    return bpe_encode(self, text, n, ids, max, work);
}

int64_t bpe_decode(const void *self, int32_t id, unsigned char *text, int64_t max)
{
    const struct encoder *e = self;
    const void *from = NULL;
    int64_t n = 0;
    if (id < 0 || id == e->end) return 0;
    if (id < e->v.n) {
        from = e->v.bytes + e->v.at[id];
        n = e->v.at[id + 1] - e->v.at[id];
    }
    for (int64_t i = 0; i < e->n_special && !n; i++)
        if (e->special[i].id == id) {
            from = e->special[i].text;
            n = e->special[i].n;
        }
    if (n && max > 0) memcpy(text, from, (size_t)(n < max ? n : max));
    return n;
}

static uint64_t fold(uint64_t h, const void *bytes, int64_t n)
{
    const unsigned char *b = bytes;
    for (int64_t i = 0; i < n; i++) h = (h ^ b[i]) * 0x100000001b3u;
    return h;
}

static uint64_t fold_numbers(uint64_t h, const int64_t *number, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        for (int shift = 0; shift < 64; shift += 8) h = (h ^ ((uint64_t)number[i] >> shift & 0xff)) * 0x100000001b3u;
    return h;
}

/* Merges, steps, added tokens (FNV-1a); whether they are looked for in a text is the reader's choice  */
uint64_t bpe_rules(const void *self)
{
    const struct encoder *e = self;
    int64_t first[] = { e->v.whole, (int64_t)bpe_pairs_hash(&e->v), e->n_step, e->n_special };
    uint64_t h = fold_numbers(0xcbf29ce484222325u, first, 4);
    for (const struct step *s = e->step; s < e->step + e->n_step; s++) {
        h = fold_numbers(h, (const int64_t[]){ s->kind, s->rule, s->cut, s->n }, 4);
        h = fold(h, s->text, s->n);
    }
    for (const struct special *s = e->special; s < e->special + e->n_special; s++) {
        h = fold_numbers(h, (const int64_t[]){ s->id, s->always, s->late, s->n }, 4);
        h = fold(h, s->text, s->n);
    }
    return h;
}

int64_t bpe_first_piece(const void *self, const unsigned char *text, int64_t n)
{
    const struct encoder *e = self;
    return bpe_piece(e->step[0].rule, e->class_of, text, n);
}
