/* merge.c - byte-level BPE (arXiv 1508.07909) over one piece:
 *
 *     begin with the bytes; while a pair of neighbours has a rank, join the pair of the
 *     lowest rank, of equal ones the leftmost
 *
 * merge_short is that loop.  merge_long does the same with a heap of (rank, place) over a
 * linked list, n log n for n bytes whatever they are.  A token's bytes are found by a hash
 * that two halves give without their bytes,
 *
 *     hash(t) = sum_i (t_i + 1) F^(n-1-i) mod 2^64        hash(ab) = hash(a) F^|b| + hash(b)
 *
 * and are always compared, so that a hash decides nothing.                                  */
#include "merge.h"

#include <string.h>

#define FACTOR 0x9e3779b97f4a7c55u

/* ---- bytes to ids ------------------------------------------------------------------ */

static uint64_t stir(uint64_t h)
{
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    return h ^ h >> 29;
}

static uint64_t hash_bytes(const unsigned char *text, int64_t n)
{
    uint64_t h = 0;
    for (int64_t i = 0; i < n; i++) h = h * FACTOR + text[i] + 1;
    return h;
}

static int64_t length(const struct vocabulary *v, int32_t id)
{
    return v->at[id + 1] - v->at[id];
}

static int32_t find_hash(const struct vocabulary *v, uint64_t hash, const unsigned char *text, int64_t n)
{
    uint64_t h = stir(hash), bit = h & v->seen_mask;
    if (!(v->seen[bit / 64] >> bit % 64 & 1)) return NO_ID;
    for (uint64_t i = h & v->slot_mask;; i = (i + 1) & v->slot_mask) {
        const struct token_slot *s = &v->slot[i];
        if (s->id < 0) return NO_ID;
        if (s->tag == (uint32_t)(h >> 32) && length(v, s->id) == n
            && !memcmp(v->bytes + v->at[s->id], text, (size_t)n))
            return s->id;
    }
}

int32_t bpe_find(const struct vocabulary *v, const unsigned char *text, int64_t n)
{
    return n > v->longest ? NO_ID : find_hash(v, hash_bytes(text, n), text, n);
}

static bool add_token(struct vocabulary *v, int32_t id)
{
    const unsigned char *text = v->bytes + v->at[id];
    int64_t n = length(v, id);
    v->hash[id] = hash_bytes(text, n);
    if (!n) return true;
    if (find_hash(v, v->hash[id], text, n) != NO_ID) return false;
    uint64_t h = stir(v->hash[id]), i = h & v->slot_mask;
    while (v->slot[i].id >= 0) i = (i + 1) & v->slot_mask;
    v->slot[i] = (struct token_slot){ .tag = (uint32_t)(h >> 32), .id = id };
    v->seen[(h & v->seen_mask) / 64] |= (uint64_t)1 << h % 64;
    return true;
}

static uint64_t mask_for(int64_t n)
{
    uint64_t size = 64;
    while (size < (uint64_t)n * 2) size *= 2;
    return size - 1;
}

chi_status bpe_vocabulary(const struct chi_host *h, const char *name, struct vocabulary *v)
{
    for (int64_t i = 0; i < v->n; i++)
        if (v->at[i + 1] - v->at[i] > v->longest) v->longest = v->at[i + 1] - v->at[i];
    if (v->longest > LONGEST_TOKEN)
        return h->fail(h, CHI_EDATA, "%s: a token of %lld bytes, wanted are at most %d", name, (long long)v->longest,
                       LONGEST_TOKEN);
    v->slot_mask = mask_for(v->n);
    v->slot = h->alloc(h, (size_t)(v->slot_mask + 1) * sizeof *v->slot);
    v->seen_mask = mask_for(v->n * 4);
    v->seen = h->alloc(h, (size_t)(v->seen_mask + 1) / 8);
    v->hash = h->alloc(h, (size_t)(v->n + 1) * sizeof *v->hash);
    v->power = h->alloc(h, (size_t)(v->longest + 1) * sizeof *v->power);
    v->byte_pair = h->alloc(h, 65536 * sizeof *v->byte_pair);
    if (!v->slot || !v->seen || !v->hash || !v->power || !v->byte_pair) return CHI_ENOMEM;
    memset(v->slot, 0xff, (size_t)(v->slot_mask + 1) * sizeof *v->slot);
    v->power[0] = 1;
    for (int64_t i = 1; i <= v->longest; i++) v->power[i] = v->power[i - 1] * FACTOR;
    for (int32_t i = 0; i < v->n; i++)
        if (!add_token(v, i))
            return h->fail(h, CHI_EDATA, "%s: id %d has the bytes of id %d, wanted are tokens that differ", name,
                           (int)i, (int)bpe_find(v, v->bytes + v->at[i], length(v, i)));
    for (int b = 0; b < 256; b++) {
        unsigned char c = (unsigned char)b;
        if ((v->byte[b] = bpe_find(v, &c, 1)) == NO_ID)
            return h->fail(h, CHI_EDATA,
                           "%s: there is no token for byte 0x%02x, wanted is one for each of the 256, so that "
                           "any text can be written", name, (unsigned)b);
    }
    bpe_ready(v);
    return CHI_OK;
}

/* ---- ranks of pairs ------------------------------------------------------------------ */

static uint64_t pair_place(int32_t left, int32_t right)
{
    return stir((uint64_t)(uint32_t)left << 32 | (uint32_t)right);
}

chi_status bpe_pairs(const struct chi_host *h, struct vocabulary *v, int64_t n)
{
    v->pair_mask = mask_for(n);
    v->pair = h->alloc(h, (size_t)(v->pair_mask + 1) * sizeof *v->pair);
    if (!v->pair) return CHI_ENOMEM;
    memset(v->pair, 0xff, (size_t)(v->pair_mask + 1) * sizeof *v->pair);
    return CHI_OK;
}

static const struct pair_slot *find_pair(const struct vocabulary *v, int32_t left, int32_t right)
{
    uint64_t i = pair_place(left, right) & v->pair_mask;
    while (v->pair[i].left >= 0 && (v->pair[i].left != left || v->pair[i].right != right)) i = (i + 1) & v->pair_mask;
    return &v->pair[i];
}

bool bpe_add_pair(struct vocabulary *v, int32_t left, int32_t right, int32_t rank, int32_t id)
{
    struct pair_slot *s = v->pair + (find_pair(v, left, right) - v->pair);
    if (s->left >= 0) return false;
    *s = (struct pair_slot){ left, right, rank, id };
    return true;
}

uint64_t bpe_pairs_hash(const struct vocabulary *v)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; v->pair && i <= v->pair_mask; i++) {
        const struct pair_slot *s = &v->pair[i];
        uint64_t join = (uint64_t)(uint32_t)s->rank << 32 | (uint32_t)s->id;
        if (s->left >= 0) sum += stir(pair_place(s->left, s->right) * FACTOR + stir(join + 1));
    }
    return sum;
}

/* The rank of two neighbours, whose bytes begin at text                                   */
static int32_t rank_of(const struct vocabulary *v, int32_t left, int32_t right, const unsigned char *text)
{
    if (v->pair) {
        const struct pair_slot *s = find_pair(v, left, right);
        return s->left < 0 ? NO_RANK : s->rank;
    }
    int64_t more = length(v, right), n = length(v, left) + more;
    if (n > v->longest) return NO_RANK;
    int32_t id = find_hash(v, v->hash[left] * v->power[more] + v->hash[right], text, n);
    return id < 0 ? NO_RANK : id;
}

static int32_t recalled_rank(const struct vocabulary *v, struct memo *memo, int32_t left, int32_t right,
                             const unsigned char *text)
{
    if (!memo) return rank_of(v, left, right, text);
    struct memo *m = &memo[((uint32_t)left * 0x9e3779b1u ^ (uint32_t)right * 0x85ebca77u) >> 18];
    if (m->left != left || m->right != right) *m = (struct memo){ left, right, rank_of(v, left, right, text) };
    return m->rank;
}

static int32_t joined(const struct vocabulary *v, int32_t left, int32_t right, int32_t rank)
{
    return v->pair ? find_pair(v, left, right)->id : rank;
}

void bpe_ready(struct vocabulary *v)
{
    for (int a = 0; a < 256; a++)
        for (int b = 0; b < 256; b++) {
            unsigned char text[2] = { (unsigned char)a, (unsigned char)b };
            v->byte_pair[a << 8 | b] = rank_of(v, v->byte[a], v->byte[b], text);
        }
}

/* ---- one piece ------------------------------------------------------------------------ */

/* The loop itself, for n <= SHORT_PIECE.  rank[i] is of symbols i and i + 1                  */
static void merge_short(const struct vocabulary *v, const unsigned char *text, int64_t n, struct id_writer *w)
{
    int32_t id[SHORT_PIECE], rank[SHORT_PIECE];
    int32_t start[SHORT_PIECE];
    for (int64_t i = 0; i < n; i++) {
        id[i] = v->byte[text[i]];
        start[i] = (int32_t)i;
        rank[i] = i + 1 < n ? v->byte_pair[text[i] << 8 | text[i + 1]] : NO_RANK;
    }
    for (;;) {
        int64_t m = 0;
        for (int64_t i = 1; i < n; i++)
            if (rank[i] < rank[m]) m = i;
        if (rank[m] == NO_RANK) break;
        id[m] = joined(v, id[m], id[m + 1], rank[m]);
        n--;
        for (int64_t i = m + 1; i < n; i++) {
            id[i] = id[i + 1];
            start[i] = start[i + 1];
            rank[i] = rank[i + 1];
        }
        rank[m] = m + 1 < n ? recalled_rank(v, w->memo, id[m], id[m + 1], text + start[m]) : NO_RANK;
        if (m) rank[m - 1] = recalled_rank(v, w->memo, id[m - 1], id[m], text + start[m - 1]);
    }
    for (int64_t i = 0; i < n; i++) bpe_put(w, id[i]);
}

/* A symbol stands at its first byte's index; rank: of it and the next                        */
struct symbol { int32_t id, rank, before, next; };
struct heap { uint64_t *key; int64_t n; };          /* rank << 32 | place; the lowest is key[0] */

static void sink(struct heap *h, int64_t i)
{
    uint64_t key = h->key[i];
    for (int64_t c; (c = 2 * i + 1) < h->n; i = c) {
        if (c + 1 < h->n && h->key[c + 1] < h->key[c]) c++;
        if (h->key[c] >= key) break;
        h->key[i] = h->key[c];
    }
    h->key[i] = key;
}

static void push(struct heap *h, int32_t rank, int64_t place)
{
    int64_t i = h->n++;
    uint64_t key = (uint64_t)(uint32_t)rank << 32 | (uint64_t)place;
    for (; i && h->key[(i - 1) / 2] > key; i = (i - 1) / 2) h->key[i] = h->key[(i - 1) / 2];
    h->key[i] = key;
}

static uint64_t pop(struct heap *h)
{
    uint64_t key = h->key[0];
    h->key[0] = h->key[--h->n];
    if (h->n) sink(h, 0);
    return key;
}

static void begin(const struct vocabulary *v, const unsigned char *text, int64_t n, struct symbol *s, struct heap *h)
{
    for (int64_t i = 0; i < n; i++) {
        s[i] = (struct symbol){ .id = v->byte[text[i]], .before = (int32_t)i - 1, .next = (int32_t)i + 1,
                                .rank = i + 1 < n ? v->byte_pair[text[i] << 8 | text[i + 1]] : NO_RANK };
        if (s[i].rank != NO_RANK) h->key[h->n++] = (uint64_t)(uint32_t)s[i].rank << 32 | (uint64_t)i;
    }
    for (int64_t i = h->n / 2 - 1; i >= 0; i--) sink(h, i);
}

/* The rank of symbol i and the next has changed                                              */
static void rank_anew(const struct vocabulary *v, struct memo *memo, const unsigned char *text, int64_t n,
                      struct symbol *s, struct heap *h, int64_t i)
{
    int64_t j = s[i].next;
    s[i].rank = j < n ? recalled_rank(v, memo, s[i].id, s[j].id, text + i) : NO_RANK;
    if (s[i].rank != NO_RANK) push(h, s[i].rank, i);
}

/* s[n] and heap room for 2 n keys: each join takes at least one and adds two at most          */
static void merge_long(const struct vocabulary *v, const unsigned char *text, int64_t n, struct id_writer *w,
                       struct symbol *s, uint64_t *keys)
{
    struct heap h = { keys, 0 };
    begin(v, text, n, s, &h);
    while (h.n) {
        uint64_t key = pop(&h);
        int64_t i = (int64_t)(key & 0xffffffffu), j = s[i].next;
        if (s[i].rank != (int32_t)(key >> 32)) continue;        /* a pair that is no more         */
        s[i].id = joined(v, s[i].id, s[j].id, s[i].rank);
        s[i].next = s[j].next;
        s[j].rank = NO_RANK;
        if (s[i].next < n) s[s[i].next].before = (int32_t)i;
        rank_anew(v, w->memo, text, n, s, &h, i);
        if (s[i].before >= 0) rank_anew(v, w->memo, text, n, s, &h, s[i].before);
    }
    for (int64_t i = 0; i < n; i = s[i].next) bpe_put(w, s[i].id);
}

int64_t bpe_scratch(int64_t n)
{
    return n * (int64_t)(sizeof(struct symbol) + 2 * sizeof(uint64_t)) + 128;
}

bool bpe_merge(const struct vocabulary *v, const unsigned char *text, int64_t n, struct id_writer *w,
               struct chi_scratch *work)
{
    struct symbol symbol[STACK_PIECE], *s = symbol;
    uint64_t key[2 * STACK_PIECE], *keys = key;
    int32_t id = n == 1 ? v->byte[text[0]] : v->whole ? bpe_find(v, text, n) : NO_ID;
    if (id != NO_ID) {
        bpe_put(w, id);
    } else if (n <= SHORT_PIECE) {
        merge_short(v, text, n, w);
    } else {
        if (n > STACK_PIECE) {
            if (!work || (int64_t)(work->size - work->used) < bpe_scratch(n)) return false;
            size_t used = work->used;
            s = chi_take(work, (size_t)n * sizeof *s);
            keys = chi_take(work, (size_t)n * 2 * sizeof *keys);
            work->used = used;
        }
        merge_long(v, text, n, w, s, keys);
    }
    return true;
}
