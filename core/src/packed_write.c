/* packed_write.c - the one writer of packed models; packed.h tells how it is used, doc/formats.md what it writes.
 *
 * All sizes are known before the first number is, and all hashes have one width: so the file gets its full length
 * and an empty place for the header, rows are encoded straight into its mapped pages, and the header comes last.
 * Of a tensor only those pages are held that the rows at hand touch.  The files have another name until they are
 * whole and on the disk; that of the experts gets its name first, so whoever sees the main file sees both.        */
#include "packed.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "core.h"
#include "fs.h"
#include "mapped.h"
#include "pool.h"

enum { MAIN, EXPERTS, PARTS, PIECE = 16 << 20 };

struct file {                           /* data 0: there is no such file                                     */
    char *path, *tmp;
    int fd;                             /* of tmp, locked, until it has its name                             */
    bool named;
    int64_t head, data;
};

struct place {                          /* of an entry                                                       */
    int64_t at, bytes, rows, cols;      /* at: from the file's beginning of data                             */
    int part;
    uint64_t hash, value;               /* XXH3 of the bytes, of the numbers; once it is done                */
    bool done;
};

struct packed_writer {
    const struct packed_entry *entry; int64_t n;
    struct place *place;
    char *config, *manifest;
    struct file file[PARTS];
    int64_t now, row;                   /* the entry that is being written, -1: none; its next row            */
    unsigned char *pages, *bytes;       /* mapped for it; where its bytes begin                               */
    int64_t n_pages;
    struct packed_value *value;         /* of its numbers so far                                              */
};

/* ---- what the files say ---------------------------------------------------------------------------------- */

static void put_hex(struct st_writer *h, const char *key, uint64_t x)
{
    char hex[20];
    snprintf(hex, sizeof hex, "%016" PRIx64, x);
    st_put_meta(h, key, hex);
}

static uint64_t all_values(const struct packed_writer *w)
{
    uint64_t *all = xcalloc((size_t)w->n, sizeof *all);
    for (int64_t i = 0; i < w->n; i++) all[i] = w->place[i].value;
    uint64_t sum = xxh3(all, (size_t)w->n * sizeof *all);
    free(all);
    return sum;
}

static void put_lines(const struct packed_writer *w, int part, struct st_writer *h)
{
    for (int64_t i = 0; i < w->n; i++) {
        const struct packed_entry *e = &w->entry[i];
        const struct place *p = &w->place[i];
        if (p->part != part) continue;
        char *line = e->encoding ? xprintf("encoding=%s shape=%lldx%lld group=%lld act_block=%d xxh3=%016" PRIx64,
                                           e->encoding->name, (long long)p->rows, (long long)p->cols,
                                           (long long)e->group, CHI_ACT_BLOCK, p->hash)
                                 : xprintf("xxh3=%016" PRIx64, p->hash);
        st_put_meta(h, e->name, line);
        free(line);
    }
}

static void announce(const struct packed_writer *w, int part, struct st_writer *h)
{
    char name[32];
    for (int64_t i = 0; i < w->n; i++) {
        const struct packed_entry *e = &w->entry[i];
        const struct place *p = &w->place[i];
        int64_t pad = round_up(p->bytes, 64) - p->bytes;
        int dims = 0;
        if (p->part != part) continue;
        while (dims < COUNT(e->shape) && e->shape[dims]) dims++;
        if (e->encoding) st_add(h, e->name, ST_U8, 1, &p->bytes);
        else st_add(h, e->name, ST_F32, dims, e->shape);
        snprintf(name, sizeof name, "pad.%lld", (long long)i);
        if (pad) st_add(h, name, ST_U8, 1, &pad);
    }
}

/* With the hashes as far as they are known: its length never changes                                         */
static chi_status make_header(const struct packed_writer *w, int part, unsigned char **bytes, int64_t *n)
{
    uint64_t values = all_values(w), model = 0;
    TRY(packed_model_hash(w->manifest, values, &model));
    struct st_writer *h = st_create(NULL);
    st_want_seal(h);
    st_put_meta(h, "format", PACKED_FORMAT);
    put_hex(h, "model_hash", model);
    if (part == EXPERTS) st_put_meta(h, "part", "experts");
    else {
        st_put_meta(h, "config", w->config);
        st_put_meta(h, "manifest", w->manifest);
        put_hex(h, "values", values);
        const char *path = w->file[EXPERTS].path, *slash = path ? strrchr(path, '/') : NULL;
        if (path) st_put_meta(h, "experts", slash ? slash + 1 : path);
    }
    put_lines(w, part, h);
    announce(w, part, h);
    return st_header(h, bytes, n);
}

/* ---- making room ------------------------------------------------------------------------------------------ */

chi_status packed_names_free(const char *path)
{
    size_t n = strlen(path);
    if (!n || path[n - 1] == '/') return fail(CHI_ECONF, "-o '%s': must be a file's name, such as model.b158", path);
    char *experts = packed_experts_path(path);
    chi_status s = fs_name_free(path);
    if (s == CHI_OK) s = fs_name_free(experts);
    free(experts);
    return s;
}

static chi_status place_all(struct packed_writer *w)
{
    for (int64_t i = 0; i < w->n; i++) {
        const struct packed_entry *e = &w->entry[i];
        struct place *p = &w->place[i];
        *p = (struct place){ .part = packed_is_expert(e->name) ? EXPERTS : MAIN, .rows = e->shape[0], .cols = 1 };
        for (int d = 1; d < COUNT(e->shape) && e->shape[d]; d++) p->cols *= e->shape[d];
        p->bytes = p->rows * p->cols * (int64_t)sizeof(float);
        if (e->encoding) {
            const struct chi_encoding_ops *ops = e->encoding->ops;
            p->bytes = ops->bytes(p->rows, p->cols, e->group);
        }
        if (p->bytes <= 0)
            return fail(CHI_ESHAPE, "%s: %s cannot hold %lld x %lld in groups of %lld", e->name,
                        e->encoding ? e->encoding->name : "F32", (long long)p->rows, (long long)p->cols,
                        (long long)e->group);
        p->at = w->file[p->part].data;
        w->file[p->part].data += round_up(p->bytes, 64);
    }
    return CHI_OK;
}

/* The whole length at once: a disk without that much room says so now                                         */
static chi_status open_file(struct packed_writer *w, int part)
{
    struct file *f = &w->file[part];
    unsigned char *header;
    TRY(make_header(w, part, &header, &f->head));
    free(header);
    TRY(fs_open_alone(f->tmp, f->path, &f->fd));
    int error = posix_fallocate(f->fd, 0, f->head + f->data);
    if (error == EINVAL || error == EOPNOTSUPP || error == ENOSYS)      /* a file system that cannot promise     */
        error = ftruncate(f->fd, f->head + f->data) < 0 ? errno : 0;
    errno = error;
    return error ? fs_fail("write", f->tmp) : CHI_OK;
}

chi_status packed_create(struct packed_writer **out, const char *path, const char *config, const char *manifest,
                         const struct packed_entry *entry, int64_t n)
{
    struct packed_writer *w = *out = xcalloc(1, sizeof *w);
    *w = (struct packed_writer){ .entry = entry, .n = n, .now = -1, .place = xcalloc((size_t)n, sizeof *w->place),
                                 .config = xstrdup(config), .manifest = xstrdup(manifest) };
    w->file[MAIN].fd = w->file[EXPERTS].fd = -1;
    chi_status s = packed_names_free(path);
    if (s == CHI_OK) s = place_all(w);
    w->file[MAIN].path = xstrdup(path);
    w->file[EXPERTS].path = w->file[EXPERTS].data ? packed_experts_path(path) : NULL;
    for (int part = 0; part < PARTS && s == CHI_OK; part++) {
        if (!w->file[part].path) continue;
        w->file[part].tmp = xprintf("%s.tmp", w->file[part].path);
        s = open_file(w, part);
    }
    if (s == CHI_OK) s = packed_names_free(path);       /* another writer may have ended since               */
    if (s == CHI_OK) return s;
    packed_abandon(w);
    *out = NULL;
    return s;
}

/* ---- tensors ------------------------------------------------------------------------------------------------ */

static chi_status map_tensor(struct packed_writer *w, int64_t i)
{
    const struct place *p = &w->place[i];
    const struct file *f = &w->file[p->part];
    int64_t from = f->head + p->at, page = sysconf(_SC_PAGESIZE), before = from % page;
    w->n_pages = before + p->bytes;
    w->pages = WEBASSEMBLY ? mem_take((size_t)w->n_pages, w->entry[i].name)
             : mmap(NULL, (size_t)w->n_pages, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, from - before);
    if (WEBASSEMBLY && !w->pages) return CHI_ENOMEM;
    if (w->pages == MAP_FAILED) {
        w->pages = NULL;
        return fs_fail("map", f->tmp);
    }
    if (!WEBASSEMBLY) mapped_add(w->pages, w->n_pages, f->tmp, MAPPED_WRITE);
    w->bytes = w->pages + before;
    w->now = i;
    w->row = 0;
    w->value = packed_value_begin();
    return w->value ? CHI_OK : fail(CHI_ENOMEM, "no memory to write %s", f->tmp);
}

static chi_status unmap_tensor(struct packed_writer *w)
{
    chi_status s = CHI_OK;
    if (!w->pages) return s;
    const struct place *p = &w->place[w->now];
    const struct file *f = &w->file[p->part];
    if (!WEBASSEMBLY) {
        mapped_drop(w->pages);
        munmap(w->pages, (size_t)w->n_pages);
    } else {
        if (pwrite(f->fd, w->bytes, (size_t)p->bytes, f->head + p->at) != p->bytes) s = fs_fail("write", f->tmp);
        mem_free(w->pages);
    }
    w->pages = NULL;
    w->now = -1;
    return s;
}

/* Its pages stay the file's, but no longer count as ours                                                       */
static void let_go(const struct packed_writer *w)
{
    if (!WEBASSEMBLY) madvise(w->pages, (size_t)w->n_pages, MADV_DONTNEED);
}

struct encode { const struct packed_writer *w; int64_t r0, r1; const int8_t *q; const float *scale; };

static void encode_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct encode *c = arg;
    const struct packed_entry *e = &c->w->entry[c->w->now];
    const struct place *p = &c->w->place[c->w->now];
    const struct chi_encoding_ops *ops = e->encoding->ops;
    int64_t from = i * CHI_TILE, r0 = c->r0 + from, groups = ceil_div(p->cols, e->group);
    (void)s;
    ops->encode(c->w->bytes, c->q ? c->q + from * p->cols : NULL, c->scale + from * groups, p->rows, p->cols,
                e->group, r0, min_i64(r0 + CHI_TILE, c->r1));
}

static chi_status hash_pages(const struct packed_writer *w, int64_t bytes, uint64_t *hash)
{
    XXH3_state_t *x = XXH3_createState();
    if (!x) return fail(CHI_ENOMEM, "no memory to hash %s", w->entry[w->now].name);
    XXH3_64bits_reset(x);
    for (int64_t at = 0; at < bytes; at += PIECE) {
        XXH3_64bits_update(x, w->bytes + at, (size_t)min_i64(PIECE, bytes - at));
        let_go(w);
    }
    *hash = XXH3_64bits_digest(x);
    XXH3_freeState(x);
    return CHI_OK;
}

static chi_status end_tensor(struct packed_writer *w, bool integer)
{
    const struct packed_entry *e = &w->entry[w->now];
    struct place *p = &w->place[w->now];
    p->value = packed_value_end(w->value, e->name, e->encoding ? e->group : 0, integer);
    w->value = NULL;
    TRY(hash_pages(w, p->bytes, &p->hash));
    p->done = true;
    return unmap_tensor(w);
}

chi_status packed_put(struct packed_writer *w, int64_t i, int64_t r0, int64_t r1, const int8_t *q, const float *scale)
{
    if (i < 0 || i >= w->n || w->place[i].done || (w->now >= 0 ? w->now != i || w->row != r0 : r0 != 0)
        || r1 <= r0 || r1 > w->place[i].rows || (r1 % CHI_TILE && r1 < w->place[i].rows))
        return fail(CHI_EBUG, "tensor %lld of a packed model: rows %lld to %lld come out of order", (long long)i,
                    (long long)r0, (long long)r1);
    if (w->now < 0) TRY(map_tensor(w, i));
    const struct packed_entry *e = &w->entry[i];
    const struct place *p = &w->place[i];
    int64_t values = (r1 - r0) * (e->encoding ? ceil_div(p->cols, e->group) : p->cols);
    struct encode c = { w, r0, r1, q, scale };
    if (e->encoding) pool_run(ceil_div(r1 - r0, CHI_TILE), encode_task, &c);
    else memcpy(w->bytes + r0 * p->cols * (int64_t)sizeof *scale, scale, (size_t)values * sizeof *scale);
    packed_value_add(w->value, q, (r1 - r0) * p->cols, scale, values);
    let_go(w);
    w->row = r1;
    return r1 == p->rows ? end_tensor(w, q != NULL) : CHI_OK;
}

uint64_t packed_put_hash(const struct packed_writer *w, int64_t i)
{
    return w->place[i].value;
}

/* ---- the end -------------------------------------------------------------------------------------------------- */

/* Its header, and all of it on the disk                                                                        */
static chi_status complete(struct packed_writer *w, int part)
{
    struct file *f = &w->file[part];
    unsigned char *header = NULL;
    int64_t n = 0;
    if (!f->path) return CHI_OK;
    chi_status s = make_header(w, part, &header, &n);
    if (s == CHI_OK && n != f->head) s = fail(CHI_EBUG, "%s: its header has another length than before", f->path);
    if (s == CHI_OK && (lseek(f->fd, 0, SEEK_SET) < 0 || !fs_write_all(f->fd, header, n)))
        s = fs_fail("write", f->tmp);
    while (s == CHI_OK && fsync(f->fd) < 0)
        if (errno != EINTR) s = fs_fail("write", f->tmp);
    free(header);
    return s;
}

static chi_status give_name(struct file *f)
{
    chi_status s = fs_publish(f->tmp, f->path);
    f->named = !fs_is_named(f->fd, f->tmp);     /* also if it fails after that                                */
    if (!f->named) unlink(f->tmp);
    close(f->fd);                               /* what is written is on the disk; tmp is no longer ours      */
    f->fd = -1;
    return s;
}

/* Experts first; without the main file they would be nobody's                                                  */
static chi_status give_names(struct packed_writer *w)
{
    struct file *main = &w->file[MAIN], *experts = &w->file[EXPERTS];
    if (experts->path) TRY(give_name(experts));
    chi_status s = give_name(main);
    if (!main->named && experts->path) unlink(experts->path);
    return s;
}

chi_status packed_finish(struct packed_writer *w)
{
    chi_status s = CHI_OK;
    for (int64_t i = 0; i < w->n && s == CHI_OK; i++)
        if (!w->place[i].done) s = fail(CHI_EBUG, "tensor %s of a packed model was announced and not written",
                                        w->entry[i].name);
    for (int part = 0; part < PARTS && s == CHI_OK; part++) s = complete(w, part);
    if (s == CHI_OK) s = give_names(w);
    packed_abandon(w);
    return s;
}

void packed_abandon(struct packed_writer *w)
{
    if (!w) return;
    if (unmap_tensor(w) != CHI_OK) { /* it goes anyway */ }
    for (int part = 0; part < PARTS; part++) {
        struct file *f = &w->file[part];
        if (f->fd >= 0) {
            unlink(f->tmp);                     /* while the lock is ours                                         */
            close(f->fd);
        }
        free(f->tmp);
        free(f->path);
    }
    packed_value_end(w->value, "", 0, false);
    free(w->place);
    free(w->config);
    free(w->manifest);
    free(w);
}
