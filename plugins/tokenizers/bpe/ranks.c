/* ranks.c - vocabularies as tiktoken keeps them: a line a token, its bytes in base64, a blank,
 * its rank, which is its id and the order in which BPE joins.  Ranks count from 0 line by line,
 * so a gap, a token that is missing and a line that moved are all the same fault.               */
#include <string.h>

#include "encoder.h"

struct lines {
    const struct chi_host *h;
    const char *path;
    const unsigned char *text;
    int64_t n, i, line;
};

struct file { const unsigned char *bytes; int64_t n, files; };

static chi_status keep_file(void *ctx, const char *name, const unsigned char *bytes, int64_t n)
{
    struct file *f = ctx;
    (void)name;
    f->bytes = bytes;
    f->n = n;
    f->files++;
    return CHI_OK;
}

chi_status bpe_read_file(const struct chi_host *h, const char *path, const unsigned char **bytes, int64_t *n)
{
    const struct chi_files *files = h->service(h, "chimera.files/1");
    struct file f = { .bytes = NULL };
    if (!files) return h->fail(h, CHI_ENOTSUP, "this program has no file service (chimera.files/1)");
    chi_status s = files->read(h, path, keep_file, &f);
    if (s != CHI_OK) return s;
    if (f.files != 1) return h->fail(h, CHI_EDATA, "%s is a folder, wanted is one file", path);
    *bytes = f.bytes;
    *n = f.n;
    return CHI_OK;
}

static int value_of(unsigned char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Bytes of base64[n], written to out (room for 3 n / 4); -1: it is none                       */
static int64_t from_base64(const unsigned char *in, int64_t n, unsigned char *out)
{
    int64_t pad = n > 1 ? (in[n - 1] == '=') + (in[n - 1] == '=' && in[n - 2] == '=') : 0, done = 0;
    if (!n || n % 4) return -1;
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t bits = 0;
        for (int64_t k = 0; k < 4; k++) {
            int value = i + k < n - pad ? value_of(in[i + k]) : 0;
            if (value < 0) return -1;
            bits = bits << 6 | (uint32_t)value;
        }
        int64_t keep = i + 4 < n ? 3 : 3 - pad;
        if (keep < 3 && bits & ((1u << 8 * (3 - keep)) - 1)) return -1;
        for (int64_t k = 0; k < keep; k++) out[done++] = (unsigned char)(bits >> (16 - 8 * k));
    }
    return done;
}

static chi_status damaged(const struct lines *l, const char *what)
{
    return l->h->fail(l->h, CHI_EDATA, "%s:%lld: %s; wanted is a token in base64, a blank and its rank, %lld",
                      l->path, (long long)l->line + 1, what, (long long)l->line);
}

/* One line into out; *bytes of it                                                              */
static chi_status read_line(struct lines *l, unsigned char *out, int64_t *bytes)
{
    const unsigned char *begin = l->text + l->i, *eol = memchr(begin, '\n', (size_t)(l->n - l->i));
    int64_t n = eol ? eol - begin : l->n - l->i, rank = 0, digits = 0;
    const unsigned char *blank = memchr(begin, ' ', (size_t)n);
    if (!blank) return damaged(l, n ? "no blank in the line" : "an empty line");
    for (const unsigned char *c = blank + 1; c < begin + n; c++, digits++) {
        if (*c < '0' || *c > '9' || digits > 9) return damaged(l, "the rank is no number");
        rank = rank * 10 + *c - '0';
    }
    if (!digits) return damaged(l, "no rank");
    if (rank != l->line) {
        char what[80];
        const char *head = "rank ";
        memcpy(what, head, strlen(head) + 1);
        memcpy(what + strlen(head), blank + 1, (size_t)digits);
        what[strlen(head) + (size_t)digits] = 0;
        return damaged(l, what);
    }
    *bytes = from_base64(begin, blank - begin, out);
    if (*bytes <= 0) return damaged(l, "the token is no base64");
    l->i += n + (eol != NULL);
    l->line++;
    return CHI_OK;
}

static int64_t count_lines(const unsigned char *text, int64_t n)
{
    int64_t lines = 0;
    for (const unsigned char *c = text, *end = text + n; c && c < end; lines++) {
        c = memchr(c, '\n', (size_t)(end - c));
        if (c) c++;
    }
    return lines;
}

chi_status bpe_read_ranks(const struct chi_host *h, const char *path, struct vocabulary *v)
{
    struct lines l = { .h = h, .path = path };
    chi_status s = bpe_read_file(h, path, &l.text, &l.n);
    if (s != CHI_OK) return s;
    int64_t room = count_lines(l.text, l.n), used = 0, bytes = 0;
    if (room < 256)
        return h->fail(h, CHI_EDATA, "%s: %lld lines, wanted is a vocabulary with at least the 256 bytes", path,
                       (long long)room);
    if (room > 1 << 24)
        return h->fail(h, CHI_EDATA, "%s: %lld lines, wanted are at most %d tokens", path, (long long)room, 1 << 24);
    unsigned char *blob = h->alloc(h, (size_t)l.n);
    v->at = h->alloc(h, (size_t)(room + 1) * sizeof *v->at);
    if (!blob || !v->at) return CHI_ENOMEM;
    for (; l.i < l.n; used += bytes) {
        if ((s = read_line(&l, blob + used, &bytes)) != CHI_OK) return s;
        v->at[l.line] = used + bytes;
    }
    v->bytes = blob;
    v->n = l.line;
    v->whole = true;
    return bpe_vocabulary(h, path, v);
}

chi_status bpe_only_bytes(const struct chi_host *h, struct vocabulary *v)
{
    unsigned char *blob = h->alloc(h, 256);
    v->at = h->alloc(h, 257 * sizeof *v->at);
    if (!blob || !v->at) return CHI_ENOMEM;
    for (int i = 0; i < 256; i++) {
        blob[i] = (unsigned char)i;
        v->at[i + 1] = i + 1;
    }
    v->bytes = blob;
    v->n = 256;
    v->whole = true;
    return bpe_vocabulary(h, "bytes", v);
}
