/* head.c - see head.h.  Runs of neighbouring tiles are tasks: each has its kernel called once for a few
 * rows of hidden at a time, and the wanted outputs picked from what comes.                              */
#include "head.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "network.h"
#include "pool.h"

enum { RUN_TILES = 8, RUN_ROWS = RUN_TILES * CHI_TILE, SOME_ROWS = 8 };

/* ---- the list --------------------------------------------------------------------------------------- */

static int rising(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* A run ends where a tile is left out, or behind RUN_TILES of them                                       */
static void find_runs(struct shortlist *l)
{
    int64_t from = 0, last = -2;                    /* the run's first tile, the last tile so far        */
    l->first = xcalloc((size_t)l->n + 1, sizeof *l->first);
    for (int64_t i = 0; i < l->n; i++) {
        int64_t tile = l->id[i] / CHI_TILE;
        if (tile > last + 1 || tile >= from + RUN_TILES) {
            l->first[l->n_run++] = i;
            from = tile;
        }
        last = tile;
    }
    l->first[l->n_run] = l->n;
}

chi_status shortlist_open(struct shortlist *l, const int32_t *id, int64_t n, int64_t vocab)
{
    *l = (struct shortlist){ 0 };
    if (n < 1) return fail(CHI_ECONF, "no token is allowed: at least one must be");
    for (int64_t i = 0; i < n; i++)
        if (id[i] < 0 || id[i] >= vocab)
            return fail(CHI_ECONF, "token %ld is allowed, but ids are 0..%lld", (long)id[i], (long long)vocab - 1);
    l->id = xcalloc((size_t)n, sizeof *l->id);
    memcpy(l->id, id, (size_t)n * sizeof *id);
    qsort(l->id, (size_t)n, sizeof *l->id, rising);
    for (int64_t i = 0; i < n; i++)
        if (!i || l->id[i] != l->id[i - 1]) l->id[l->n++] = l->id[i];
    find_runs(l);
    return CHI_OK;
}

void shortlist_close(struct shortlist *l)
{
    free(l->id);
    free(l->first);
    *l = (struct shortlist){ 0 };
}

int64_t shortlist_find(const struct shortlist *l, int32_t id)
{
    const int32_t *at = bsearch(&id, l->id, (size_t)l->n, sizeof id, rising);
    return at ? at - l->id : -1;
}

/* ---- from text ---------------------------------------------------------------------------------------- */

/* An id at *text, which moves behind it                                                                  */
static bool read_id(const char **text, int64_t *id)
{
    char *end;
    if (**text < '0' || **text > '9') return false;
    errno = 0;
    *id = strtoll(*text, &end, 10);
    *text = end;
    return !errno;
}

static chi_status bad_list(const char *text, const char *name, const char *at)
{
    int64_t line = 1;
    for (const char *p = text; p < at; p++) line += *p == '\n';
    return fail(CHI_ECONF, "%s: line %lld: found '%.12s', wanted are ids and ranges such as 1,5,10-20", name,
                (long long)line,
                *at ? at : "the end");
}

enum { IDS_MAX = 1 << 24 };

chi_status ids_parse(const char *text, const char *name, int32_t **out, int64_t *n)
{
    static const char between[] = ", \t\r\n";
    int32_t *id = NULL;
    int64_t room = 0;
    chi_status s = CHI_OK;
    *n = 0;
    for (const char *p = text + strspn(text, between); *p && s == CHI_OK; p += strspn(p, between)) {
        const char *was = p;
        int64_t from = 0, to;
        bool fine = read_id(&p, &from);
        to = from;
        if (fine && *p == '-') {
            p++;
            fine = read_id(&p, &to);
        }
        if (!fine || (*p && !strchr(between, *p)) || to < from) s = bad_list(text, name, was);
        else if (to > INT32_MAX || to - from >= IDS_MAX - *n)
            s = fail(CHI_ECONF, "%s: %lld-%lld: ids are below 2^31, and at most %d in a list", name, (long long)from,
                     (long long)to, IDS_MAX);
        for (; s == CHI_OK && from <= to; from++) {
            if (*n == room) id = xrealloc(id, (size_t)(room = 2 * room + 64) * sizeof *id);
            id[(*n)++] = (int32_t)from;
        }
    }
    if (s == CHI_OK && !*n) s = fail(CHI_ECONF, "%s names no token: wanted are ids such as 1,5,10-20", name);
    *out = s == CHI_OK ? id : NULL;
    if (s != CHI_OK) free(id);
    return s;
}

/* ---- the products --------------------------------------------------------------------------------------- */

struct some { const struct chi_linear *l; const struct shortlist *list; struct chi_act act; float *y; };

static void run_task(void *arg, int64_t j, struct chi_scratch *s)
{
    const struct some *c = arg;
    const struct shortlist *list = c->list;
    float part[SOME_ROWS * RUN_ROWS];
    int64_t o0 = list->id[list->first[j]] / CHI_TILE * CHI_TILE;
    int64_t o1 = min_i64(round_up(list->id[list->first[j + 1] - 1] + 1, CHI_TILE), c->l->d_out);
    for (int64_t r = 0; r < c->act.rows; r += SOME_ROWS) {
        int64_t rows = min_i64(SOME_ROWS, c->act.rows - r), blocks = c->act.ldq / CHI_ACT_BLOCK;
        size_t was = s->used;
        struct chi_act a = c->act;
        a.rows = rows;
        a.x += r * a.ldx;
        a.q += r * a.ldq;
        a.step += r * blocks;
        a.sum += r * blocks;
        linear_outputs(c->l, &a, o0, o1, part, RUN_ROWS, s);
        s->used = was;
        for (int64_t k = 0; k < rows; k++)
            for (int64_t i = list->first[j]; i < list->first[j + 1]; i++)
                c->y[(r + k) * list->n + i] = part[k * RUN_ROWS + list->id[i] - o0];
    }
}

chi_status model_logits_of(struct model *m, const float *hidden, int64_t rows, const struct shortlist *list,
                           float *logits)
{
    TRY(model_refresh(m));
    for (int64_t at = 0; at < rows; at += HEAD_ROWS) {
        int64_t n = min_i64(HEAD_ROWS, rows - at);
        struct some c = { .l = m->head, .list = list, .y = logits + at * list->n };
        c.act = linear_input(m->head, m->spec->kernels, hidden + at * m->d, n);
        pool_run(list->n_run, run_task, &c);
    }
    logits_cap(m, logits, logits, rows * list->n);
    return CHI_OK;
}
