/* session.c - the session file.
 *
 * All numbers little-endian:
 *
 *      0  "CHISESS\n"     8  u32 version      12  u32 length of the key's text
 *     16  u64 weights    24  u64 tokenizer    32  i64 state bytes   40  i64 pos
 *     48  i64 total      56  i64 kept         64  u64 stream id     72  i32 next
 *     76  u32 waiting    80  the key's text, kept tokens (i32, oldest first),
 *         waiting bytes, the state, then u64 XXH3 of everything before it
 *
 * The checksum comes before any other number is believed; lengths must add up to the
 * file's size exactly.                                                           */
#include "session.h"

#include "core.h"
#include "fs.h"

#include <stdlib.h>
#include <string.h>

enum { FORMAT = 1, HEADER = 80, SUM = 8 };
static const char magic[8] = { 'C', 'H', 'I', 'S', 'E', 'S', 'S', '\n' };

static unsigned char *put(unsigned char *p, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) *p++ = (unsigned char)(v >> 8 * i);
    return p;
}

static uint64_t get(const unsigned char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static unsigned char *put_bytes(unsigned char *p, const void *from, int64_t n)
{
    if (n) memcpy(p, from, (size_t)n);
    return p + n;
}

bool session_is(const char *path)
{
    char text[sizeof magic + 1] = "";
    memcpy(text, magic, sizeof magic);
    return fs_begins(path, text);
}

chi_status session_save(const char *path, const struct stream *s, const struct session_key *key)
{
    int64_t text = (int64_t)strlen(key->text);
    int64_t n = HEADER + text + 4 * s->kept + s->n_waiting + s->state_bytes + SUM;
    unsigned char *file = mem_take((size_t)n, "the session file"), *p = file;
    if (!file) return CHI_ENOMEM;
    p = put_bytes(p, magic, sizeof magic);
    p = put(put(p, FORMAT, 4), (uint64_t)text, 4);
    p = put(put(p, key->weights, 8), key->tokenizer, 8);
    p = put(put(p, (uint64_t)s->state_bytes, 8), (uint64_t)s->pos, 8);
    p = put(put(p, (uint64_t)s->total, 8), (uint64_t)s->kept, 8);
    p = put(put(p, s->id, 8), (uint32_t)s->next, 4);
    p = put(p, (uint32_t)s->n_waiting, 4);
    p = put_bytes(p, key->text, text);
    for (int64_t i = s->total - s->kept; i < s->total; i++)
        p = put(p, (uint32_t)stream_ring(s)[i % s->window], 4);
    p = put_bytes(p, s->waiting, s->n_waiting);
    p = put_bytes(p, stream_state(s), s->state_bytes);
    put(p, xxh3(file, (size_t)(n - SUM)), SUM);
    chi_status status = fs_write_atomic(path, file, n);
    mem_free(file);
    return status;
}

/* ---- loading ----------------------------------------------------------------- */

struct reader {                         /* a file whose checksum is right          */
    const char *path;
    const unsigned char *file, *text, *ring, *waiting, *state;
    int64_t n, n_text, n_waiting, state_bytes, pos, total, kept;
    int32_t next;
};

static chi_status damaged(const struct reader *r, const char *what)
{
    return fail(CHI_EDATA, "%s: %s: the session file is damaged and was not used", r->path, what);
}

static chi_status check_whole(const struct reader *r)
{
    if (r->n < (int64_t)sizeof magic || memcmp(r->file, magic, sizeof magic))
        return fail(CHI_EDATA, "%s is not a session file of chimera", r->path);
    if (r->n < HEADER + SUM) return damaged(r, "it is cut short");
    uint32_t version = (uint32_t)get(r->file + 8, 4);
    if (xxh3(r->file, (size_t)(r->n - SUM)) == get(r->file + r->n - SUM, SUM))
        return version == FORMAT ? CHI_OK
             : fail(CHI_EDATA, "%s has format %u, this program reads %d", r->path, version, FORMAT);
    if (version != FORMAT)
        return fail(CHI_EDATA, "%s has format %u and a wrong checksum: it is damaged, or of another "
                    "version (this program reads %d)", r->path, version, FORMAT);
    return damaged(r, "its checksum is wrong");
}

static chi_status find_parts(struct reader *r)
{
    const unsigned char *f = r->file;
    r->n_text = (int64_t)get(f + 12, 4);
    r->state_bytes = (int64_t)get(f + 32, 8);
    r->pos = (int64_t)get(f + 40, 8);
    r->total = (int64_t)get(f + 48, 8);
    r->kept = (int64_t)get(f + 56, 8);
    r->next = (int32_t)(uint32_t)get(f + 72, 4);
    r->n_waiting = (int64_t)get(f + 76, 4);
    int64_t left = r->n - HEADER - SUM;
    if (r->state_bytes < 0 || r->state_bytes > left || r->kept < 0 || r->kept > left / 4
        || r->n_text + 4 * r->kept + r->n_waiting + r->state_bytes != left)
        return damaged(r, "its lengths do not add up");
    r->text = f + HEADER;
    r->ring = r->text + r->n_text;
    r->waiting = r->ring + 4 * r->kept;
    r->state = r->waiting + r->n_waiting;
    return CHI_OK;
}

/* Numbers that a stream of this model can have                                   */
static chi_status check_numbers(const struct reader *r, const struct session_key *key)
{
    if (r->pos < 0 || r->pos == INT64_MAX || r->total != r->pos + 1 || r->kept > r->total
        || r->n_waiting > TEXT_WAITING || r->next < 0 || r->next >= key->vocab)
        return damaged(r, "its numbers make no sense");
    for (int64_t i = 0; i < r->kept; i++)
        if (get(r->ring + 4 * i, 4) >= (uint64_t)key->vocab)
            return damaged(r, "a token is outside the vocabulary");
    return CHI_OK;
}

/* Length of the line at p                                                        */
static size_t line(const char *p, const char *end)
{
    const char *nl = memchr(p, '\n', (size_t)(end - p));
    return (size_t)((nl ? nl : end) - p);
}

/* Is the line one of text's?                                                     */
static bool has_line(const char *text, const char *end, const char *wanted, size_t n)
{
    for (size_t k; text < end; text += k + 1) {
        k = line(text, end);
        if (k == n && !memcmp(text, wanted, n)) return true;
    }
    return false;
}

/* The first line of a that b lacks; *n = 0: none                                 */
static const char *lacking(const char *a, const char *a_end, const char *b, const char *b_end,
                           size_t *n)
{
    for (; a < a_end; a += *n + 1) {
        *n = line(a, a_end);
        if (*n && !has_line(b, b_end, a, *n)) return a;
    }
    *n = 0;
    return a_end;
}

static chi_status check_model(const struct reader *r, const struct session_key *key)
{
    const char *theirs = (const char *)r->text, *their_end = theirs + r->n_text;
    const char *ours = key->text, *our_end = ours + strlen(ours);
    size_t n, m;
    const char *a = lacking(theirs, their_end, ours, our_end, &n);
    const char *b = lacking(ours, our_end, theirs, their_end, &m);
    if (n || m)
        return fail(CHI_EDATA, "%s is the session of another model: it has '%.*s', this model has "
                    "'%.*s'", r->path, n ? (int)n : 7, n ? a : "nothing", m ? (int)m : 7,
                    m ? b : "nothing");
    if (get(r->file + 24, 8) != key->tokenizer)
        return fail(CHI_EDATA, "%s is the session of a model with another tokenizer", r->path);
    if (get(r->file + 16, 8) != key->weights)
        return fail(CHI_EDATA, "%s is the session of the same kind of model with other weights: "
                    "another run, or another checkpoint of this one", r->path);
    return CHI_OK;
}

static void fill(struct stream *s, const struct reader *r)
{
    int64_t keep = min_i64(r->kept, s->window);
    for (int64_t i = 0; i < keep; i++)
        stream_ring(s)[(r->total - keep + i) % s->window] =
            (int32_t)(uint32_t)get(r->ring + 4 * (r->kept - keep + i), 4);
    s->kept = keep;
    s->pos = r->pos;
    s->total = r->total;
    s->next = r->next;
    s->id = get(r->file + 64, 8);
    s->n_waiting = (int32_t)r->n_waiting;
    put_bytes(s->waiting, r->waiting, r->n_waiting);
    put_bytes(stream_state(s), r->state, r->state_bytes);
}

chi_status session_load(const char *path, struct stream *s, const struct session_key *key)
{
    unsigned char *bytes;
    struct reader r = { .path = path };
    TRY(fs_read(path, &bytes, &r.n));
    r.file = bytes;
    chi_status status = check_whole(&r);
    if (status == CHI_OK) status = find_parts(&r);
    if (status == CHI_OK) status = check_model(&r, key);
    if (status == CHI_OK) status = check_numbers(&r, key);
    if (status == CHI_OK && r.state_bytes != s->state_bytes)
        status = fail(CHI_EDATA, "%s has a state of %lld bytes, this model's has %lld", path,
                      (long long)r.state_bytes, (long long)s->state_bytes);
    if (status == CHI_OK) fill(s, &r);
    mem_free(bytes);
    return status;
}
