/* merge.h - a vocabulary of byte-level BPE, and the merging of one piece of text.            */
#ifndef BPE_MERGE_H
#define BPE_MERGE_H

#include <chimera/host.h>

enum { NO_RANK = INT32_MAX, NO_ID = -1, LONGEST_TOKEN = 1 << 16, SHORT_PIECE = 24, STACK_PIECE = 512 };

struct token_slot { uint32_t tag; int32_t id; };            /* id -1: free                   */
struct pair_slot { int32_t left, right, rank, id; };        /* left -1: free                 */

/* Written while the tokenizer opens, const afterwards; all memory is the instance's          */
struct vocabulary {
    int64_t n;                              /* ids 0 .. n - 1                                */
    const unsigned char *bytes;             /* of all tokens, in the order of ids            */
    int64_t  *at;                           /* [n + 1] where a token's bytes begin           */
    uint64_t *hash;                         /* [n] of its bytes                              */
    uint64_t *power;                        /* [longest + 1] of the hash's factor            */
    int64_t   longest;                      /* bytes of a token                              */
    struct token_slot *slot;                /* [slot_mask + 1] from bytes to id              */
    uint64_t  slot_mask;
    uint64_t *seen;                         /* [(seen_mask + 1) / 64] bits of the tokens' hashes   */
    uint64_t  seen_mask;
    struct pair_slot *pair;                 /* [pair_mask + 1]; NULL: a pair's rank is the id
                                               of the token that has the bytes of both       */
    uint64_t  pair_mask;
    int32_t  *byte_pair;                    /* [65536] ranks of pairs of bytes               */
    int32_t   byte[256];
    bool      whole;                        /* a piece that is a token is not merged         */
};

/* n tokens whose bytes follow each other, with at[n + 1]; a token of no bytes is no text's.
 * Twice the same token: CHI_EDATA.  Without pairs it is ready; name begins messages.  [setup] */
chi_status bpe_vocabulary(const struct chi_host *, const char *name, struct vocabulary *) CHI_MUST_CHECK;
/* Room for so many pairs, then each with its rank; false: it is there already.  [setup]          */
chi_status bpe_pairs(const struct chi_host *, struct vocabulary *, int64_t n) CHI_MUST_CHECK;
/* Of all pairs, their ranks and what they become, in whatever order they were added; 0: there are none */
uint64_t bpe_pairs_hash(const struct vocabulary *);
bool bpe_add_pair(struct vocabulary *, int32_t left, int32_t right, int32_t rank, int32_t id);
/* Ranks of pairs of bytes, when the pairs are complete                                          */
void bpe_ready(struct vocabulary *);
/* The id of these bytes, or NO_ID                                                               */
int32_t bpe_find(const struct vocabulary *, const unsigned char *text, int64_t n);

/* Ranks of pairs that were asked for lately, at hash(left, right) % MEMO: the vocabulary is many times
 * as large as the caches of a processor.  All 0xff: empty                                       */
enum { MEMO = 16384 };
struct memo { int32_t left, right, rank; };

/* Ids of a text, of which the first max are written                                             */
struct id_writer { int32_t *ids; int64_t max, n; struct memo *memo; };      /* memo[MEMO], or NULL */
static inline void bpe_put(struct id_writer *w, int32_t id)
{
    if (w->n < w->max) w->ids[w->n] = id;
    w->n++;
}
/* Appends the ids of a piece, n >= 1.  Pieces of more than STACK_PIECE bytes want bpe_scratch(n)
 * bytes of work, and are left undone (false) without it.                                        */
bool bpe_merge(const struct vocabulary *, const unsigned char *text, int64_t n, struct id_writer *,
               struct chi_scratch *);
int64_t bpe_scratch(int64_t n);

#endif
