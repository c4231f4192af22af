/* vocab_train.c - see vocab_train.h.  The distinct pieces ("words") begin as bytes; each step joins
 * the most frequent pair (l, r) in all words that have it:
 *
 *     count(l, r) = sum over words of how often the word came x how often l, r are neighbours in it
 *
 * Counts are kept as words change, so that a step costs what its words are long.  A heap has the
 * pairs; an entry whose count is no longer true is put right when it comes up.  A pair whose bytes
 * are a token already becomes that token, so that no two tokens are the same.  One thread: the
 * order of ids is part of the result.                                                           */
#include "vocab_train.h"

#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "fs.h"
#include "progress.h"

enum { LONGEST_WORD = 1024, LONGEST_TOKEN = 256 };

/* ---- pieces --------------------------------------------------------------------------------- */

static void *grown(void *p, int64_t n, int64_t *room, size_t size)
{
    if (n <= *room) return p;
    *room = max_i64(2 * *room, max_i64(n, 256));
    return xrealloc(p, (size_t)*room * size);
}

static void pieces_rehash(struct pieces *p)
{
    p->mask = p->mask ? 2 * p->mask + 1 : 1023;
    free(p->slot);
    p->slot = xcalloc((size_t)p->mask + 1, sizeof *p->slot);
    memset(p->slot, 0xff, ((size_t)p->mask + 1) * sizeof *p->slot);
    for (int64_t i = 0; i < p->n; i++) {
        uint64_t k = xxh3(p->text + p->piece[i].at, (size_t)p->piece[i].n) & p->mask;
        while (p->slot[k] >= 0) k = (k + 1) & p->mask;
        p->slot[k] = (int32_t)i;
    }
}

void pieces_count(struct pieces *p, const unsigned char *text, int64_t n)
{
    p->bytes += n;
    if (n > LONGEST_WORD) {
        p->skipped += n;
        return;
    }
    if ((uint64_t)p->n * 2 >= p->mask) pieces_rehash(p);
    uint64_t k = xxh3(text, (size_t)n) & p->mask;
    for (; p->slot[k] >= 0; k = (k + 1) & p->mask) {
        struct piece *q = &p->piece[p->slot[k]];
        if (q->n != n || memcmp(p->text + q->at, text, (size_t)n) != 0) continue;
        q->count++;
        return;
    }
    p->slot[k] = (int32_t)p->n;
    p->text = grown(p->text, p->text_n + n, &p->text_room, 1);
    p->piece = grown(p->piece, p->n + 1, &p->room, sizeof *p->piece);
    memcpy(p->text + p->text_n, text, (size_t)n);
    p->piece[p->n++] = (struct piece){ p->text_n, n, 1 };
    p->text_n += n;
}

void pieces_free(struct pieces *p)
{
    free(p->text);
    free(p->piece);
    free(p->slot);
    *p = (struct pieces){ .n = 0 };
}

/* ---- pairs -------------------------------------------------------------------------------------- */

struct pair {
    int32_t left, right;
    int64_t count, told;                        /* told: the greatest count that the heap knows  */
    int32_t *word; int64_t n, room;             /* words that have had it, some twice            */
};
struct candidate { int64_t count; int32_t left, right, pair; };

struct training {
    const struct pieces *words;
    int32_t *symbol;                            /* word i: from words->piece[i].at on            */
    int32_t *length;                            /* [words] symbols                               */
    struct pair *pair; int64_t n_pair, pair_room;
    int32_t *slot; uint64_t mask;               /* from left, right to a pair; -1: free          */
    struct candidate *heap; int64_t n_heap, heap_room;
    struct vocab *v; int64_t text_n, text_room, at_room;
    int32_t *token; uint64_t token_mask;        /* from bytes to a token                         */
};

static uint64_t pair_hash(int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static void pairs_rehash(struct training *t)
{
    t->mask = t->mask ? 2 * t->mask + 1 : 65535;
    free(t->slot);
    t->slot = xcalloc((size_t)t->mask + 1, sizeof *t->slot);
    memset(t->slot, 0xff, ((size_t)t->mask + 1) * sizeof *t->slot);
    for (int64_t i = 0; i < t->n_pair; i++) {
        uint64_t k = pair_hash(t->pair[i].left, t->pair[i].right) & t->mask;
        while (t->slot[k] >= 0) k = (k + 1) & t->mask;
        t->slot[k] = (int32_t)i;
    }
}

static struct pair *pair_of(struct training *t, int32_t left, int32_t right)
{
    if ((uint64_t)t->n_pair * 2 >= t->mask) pairs_rehash(t);
    uint64_t k = pair_hash(left, right) & t->mask;
    for (; t->slot[k] >= 0; k = (k + 1) & t->mask) {
        struct pair *p = &t->pair[t->slot[k]];
        if (p->left == left && p->right == right) return p;
    }
    t->slot[k] = (int32_t)t->n_pair;
    t->pair = grown(t->pair, t->n_pair + 1, &t->pair_room, sizeof *t->pair);
    t->pair[t->n_pair] = (struct pair){ .left = left, .right = right };
    return &t->pair[t->n_pair++];
}

/* a is to be joined before b                                                                     */
static bool before(const struct candidate *a, const struct candidate *b)
{
    if (a->count != b->count) return a->count > b->count;
    return a->left != b->left ? a->left < b->left : a->right < b->right;
}

static void push(struct training *t, struct pair *p)
{
    struct candidate c = { p->count, p->left, p->right, (int32_t)(p - t->pair) };
    t->heap = grown(t->heap, t->n_heap + 1, &t->heap_room, sizeof *t->heap);
    int64_t i = t->n_heap++;
    for (; i && before(&c, &t->heap[(i - 1) / 2]); i = (i - 1) / 2) t->heap[i] = t->heap[(i - 1) / 2];
    t->heap[i] = c;
    p->told = p->count;
}

static struct candidate pop(struct training *t)
{
    struct candidate top = t->heap[0], c = t->heap[--t->n_heap];
    int64_t i = 0;
    for (int64_t k; (k = 2 * i + 1) < t->n_heap; i = k) {
        if (k + 1 < t->n_heap && before(&t->heap[k + 1], &t->heap[k])) k++;
        if (!before(&t->heap[k], &c)) break;
        t->heap[i] = t->heap[k];
    }
    t->heap[i] = c;
    return top;
}

/* ---- words ----------------------------------------------------------------------------------------- */

/* Adds a word's pairs (sign 1) or takes them away (-1); those with id (-1: all) note the word       */
static void count_word(struct training *t, int64_t word, int sign, int32_t id)
{
    const int32_t *s = t->symbol + t->words->piece[word].at;
    for (int32_t i = 0; i + 1 < t->length[word]; i++) {
        struct pair *p = pair_of(t, s[i], s[i + 1]);
        p->count += sign * t->words->piece[word].count;
        bool noted = id >= 0 && s[i] != id && s[i + 1] != id;
        if (sign < 0 || noted || (p->n && p->word[p->n - 1] == word)) continue;
        p->word = grown(p->word, p->n + 1, &p->room, sizeof *p->word);
        p->word[p->n++] = (int32_t)word;
    }
}

/* New pairs and those that became more frequent stand in the heap with what they are                */
static void tell_word(struct training *t, int64_t word)
{
    const int32_t *s = t->symbol + t->words->piece[word].at;
    for (int32_t i = 0; i + 1 < t->length[word]; i++) {
        struct pair *p = pair_of(t, s[i], s[i + 1]);
        if (p->count > p->told) push(t, p);
    }
}

static bool has(const struct training *t, int64_t word, int32_t left, int32_t right)
{
    const int32_t *s = t->symbol + t->words->piece[word].at;
    for (int32_t i = 0; i + 1 < t->length[word]; i++)
        if (s[i] == left && s[i + 1] == right) return true;
    return false;
}

static void join_in_word(struct training *t, int64_t word, int32_t left, int32_t right, int32_t id)
{
    int32_t *s = t->symbol + t->words->piece[word].at, n = t->length[word], k = 0;
    for (int32_t i = 0; i < n; i++) {
        bool joins = i + 1 < n && s[i] == left && s[i + 1] == right;
        s[k++] = joins ? id : s[i];
        i += joins;
    }
    t->length[word] = k;
}

static void join(struct training *t, int32_t pair, int32_t id)
{
    struct pair p = t->pair[pair];
    t->pair[pair].word = NULL;                  /* the list is ours: the pair will be no more      */
    t->pair[pair].n = t->pair[pair].room = 0;
    int64_t kept = 0;
    for (int64_t i = 0; i < p.n; i++) {
        if (!has(t, p.word[i], p.left, p.right)) continue;
        count_word(t, p.word[i], -1, id);
        join_in_word(t, p.word[i], p.left, p.right, id);
        count_word(t, p.word[i], 1, id);
        p.word[kept++] = p.word[i];
    }
    for (int64_t i = 0; i < kept; i++) tell_word(t, p.word[i]);
    free(p.word);
}

/* ---- tokens ------------------------------------------------------------------------------------------- */

/* The token with these bytes, or where it is to stand in the table                                      */
static int32_t *token_place(const struct training *t, const unsigned char *text, int64_t n)
{
    uint64_t k = xxh3(text, (size_t)n) & t->token_mask;
    for (; t->token[k] >= 0; k = (k + 1) & t->token_mask) {
        const int64_t *at = t->v->at + t->token[k];
        if (at[1] - at[0] == n && !memcmp(t->v->text + at[0], text, (size_t)n)) break;
    }
    return &t->token[k];
}

/* The token's id, new or old                                                                            */
static int32_t add_token(struct training *t, const unsigned char *text, int64_t n)
{
    struct vocab *v = t->v;
    int32_t *place = token_place(t, text, n);
    if (*place >= 0) return *place;
    v->text = grown(v->text, t->text_n + n, &t->text_room, 1);
    v->at = grown(v->at, v->n + 2, &t->at_room, sizeof *v->at);
    memcpy(v->text + t->text_n, text, (size_t)n);
    v->at[v->n] = t->text_n;
    t->text_n += n;
    v->at[v->n + 1] = t->text_n;
    return *place = (int32_t)v->n++;
}

/* The id of left and right together, or -1 if they are too long for a token                             */
static int32_t add_joined(struct training *t, int32_t left, int32_t right)
{
    unsigned char text[2 * LONGEST_TOKEN];
    const int64_t *at = t->v->at;
    int64_t n = at[left + 1] - at[left], m = at[right + 1] - at[right];
    if (n + m > LONGEST_TOKEN) return -1;
    memcpy(text, t->v->text + at[left], (size_t)n);
    memcpy(text + n, t->v->text + at[right], (size_t)m);
    return add_token(t, text, n + m);
}

static void begin(struct training *t, const struct pieces *words, int64_t want)
{
    t->words = words;
    t->symbol = xcalloc((size_t)words->text_n + 1, sizeof *t->symbol);
    t->length = xcalloc((size_t)words->n + 1, sizeof *t->length);
    for (t->token_mask = 1023; t->token_mask < 2 * (uint64_t)want;) t->token_mask = 2 * t->token_mask + 1;
    t->token = xcalloc((size_t)t->token_mask + 1, sizeof *t->token);
    memset(t->token, 0xff, ((size_t)t->token_mask + 1) * sizeof *t->token);
    for (int b = 0; b < 256; b++) add_token(t, &(unsigned char){ (unsigned char)b }, 1);
    for (int64_t i = 0; i < words->text_n; i++) t->symbol[i] = words->text[i];
    for (int64_t i = 0; i < words->n; i++) {
        t->length[i] = (int32_t)words->piece[i].n;
        count_word(t, i, 1, -1);
    }
    for (int64_t i = 0; i < t->n_pair; i++) push(t, &t->pair[i]);
}

static void finish(struct training *t)
{
    for (int64_t i = 0; i < t->n_pair; i++) free(t->pair[i].word);
    free(t->pair);
    free(t->slot);
    free(t->heap);
    free(t->symbol);
    free(t->length);
    free(t->token);
}

void vocab_train(struct vocab *v, const struct pieces *words, int64_t want, int64_t least, struct progress *shown)
{
    struct training t = { .v = v };
    *v = (struct vocab){ .n = 0 };
    begin(&t, words, want);
    while (v->n < want && t.n_heap) {
        struct candidate c = pop(&t);
        struct pair *p = &t.pair[c.pair];
        p->told = 0;
        if (c.count != p->count) {              /* it was joined elsewhere meanwhile              */
            if (c.count > p->count && p->count >= least) push(&t, p);
            continue;
        }
        if (p->count < least) break;
        int32_t id = add_joined(&t, c.left, c.right);
        if (id >= 0) join(&t, c.pair, id);
        progress_part(shown, "joining pairs", v->n, want);
    }
    finish(&t);
}

void vocab_free(struct vocab *v)
{
    free(v->text);
    free(v->at);
    *v = (struct vocab){ .n = 0 };
}

chi_status vocab_write(const struct vocab *v, const char *path)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = xcalloc((size_t)(v->at[v->n] * 4 + v->n * 24) + 1, 1), *p = out;
    for (int64_t i = 0; i < v->n; i++) {
        const unsigned char *text = v->text + v->at[i];
        int64_t n = v->at[i + 1] - v->at[i];
        for (int64_t k = 0; k < n; k += 3, p += 4) {
            uint32_t bits = (uint32_t)text[k] << 16 | (k + 1 < n ? (uint32_t)text[k + 1] << 8 : 0)
                          | (k + 2 < n ? text[k + 2] : 0);
            for (int j = 0; j < 4; j++) p[j] = k + j > n ? '=' : digit[bits >> (18 - 6 * j) & 63];
        }
        p += sprintf(p, " %lld\n", (long long)i);
    }
    chi_status s = fs_write_atomic(path, out, p - out);
    free(out);
    return s;
}
