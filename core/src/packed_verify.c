/* packed_verify.c - do the data of a packed model have the hashes of its lines, do their bytes mean numbers of
 * their classes, and are those the numbers that `values` and model_hash are of?  On all threads; what was found
 * good is remembered with the identity of its files:
 *
 *     cache/chimera/verified, a line a file:
 *     VERSION DEVICE INODE SIZE MTIME CTIME header_xxh3 PATH                    times in seconds.nanoseconds
 *
 * Nobody can write into a file without moving its ctime, so a file with the same line needs no second look.  A
 * ctime is as coarse as the clock that the system stamps files with: a file that changed just now is not
 * remembered.  (Stores into mapped pages move no ctime on tmpfs, and elsewhere only the first one does: who writes
 * so into a model in use is seen by VERIFY_FULL alone.)                                                      */
#include "packed.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "core.h"
#include "fs.h"
#include "pool.h"
#include "progress.h"

enum { LINES_MAX = 200, LINE_MAX_ = 4608, YOUNG_MS = 100, YOUNG_COARSE_MS = 2100 };

/* ---- what is remembered ------------------------------------------------------------------------------------- */

static char *cache_file(void)
{
    char *folder = fs_cache_folder(), *file = folder ? fs_join(folder, "verified") : NULL;
    free(folder);
    return file;
}

/* The line of a file, without its newline; NULL: it has no identity.  Caller frees                              */
static char *line_of(const struct st_file *f)
{
    const struct stat *st = st_identity(f);
    char *path = st && !strchr(st_path(f), '\n') ? realpath(st_path(f), NULL) : NULL;
    if (!path) return NULL;
    char *line = xprintf("%s %llu %llu %lld %lld.%09ld %lld.%09ld %s %s", CHIMERA_VERSION,
                         (unsigned long long)st->st_dev,
                         (unsigned long long)st->st_ino, (long long)st->st_size, (long long)st->st_mtim.tv_sec,
                         st->st_mtim.tv_nsec, (long long)st->st_ctim.tv_sec, st->st_ctim.tv_nsec,
                         st_meta(f, "header_xxh3"), path);
    free(path);
    return line;
}

static bool remembered(const struct st_file *f)
{
    char *line = line_of(f), *file = cache_file(), have[LINE_MAX_];
    FILE *from = line && file ? fopen(file, "re") : NULL;
    bool found = false;
    while (from && !found && fgets(have, sizeof have, from)) {
        have[strcspn(have, "\n")] = 0;
        found = !strcmp(have, line);
    }
    if (from) fclose(from);
    free(line);
    free(file);
    return found;
}

/* Whole seconds: perhaps all that the file system has                                                            */
bool packed_settled(const struct stat *st, const struct timespec *now)
{
    int64_t age_ms = (int64_t)(now->tv_sec - st->st_ctim.tv_sec) * 1000 + (now->tv_nsec - st->st_ctim.tv_nsec) / 1000000;
    return age_ms > (st->st_ctim.tv_nsec ? YOUNG_MS : YOUNG_COARSE_MS);
}

/* Is it the file that was opened, and older than the clock of its file system ticks?                            */
static bool settled(const struct st_file *f)
{
    const struct stat *was = st_identity(f);
    struct stat now;
    struct timespec t;
    if (!was || stat(st_path(f), &now) < 0 || clock_gettime(CLOCK_REALTIME, &t) < 0) return false;
    return now.st_dev == was->st_dev && now.st_ino == was->st_ino && now.st_size == was->st_size
        && !memcmp(&now.st_mtim, &was->st_mtim, sizeof now.st_mtim)
        && !memcmp(&now.st_ctim, &was->st_ctim, sizeof now.st_ctim) && packed_settled(was, &t);
}

/* The newest LINES_MAX lines and this one; who cannot write there verifies again the next time                  */
static void remember(const struct st_file *f)
{
    char *line = settled(f) && !remembered(f) ? line_of(f) : NULL, *file = line ? cache_file() : NULL;
    char *folder = fs_cache_folder(), *text = NULL;
    unsigned char *old = NULL;
    int64_t n_old = 0, lines = 0, from = 0;
    if (file && fs_mkdirs(folder) == CHI_OK) {
        if (fs_exists(file) && fs_read(file, &old, &n_old) != CHI_OK) n_old = 0;
        for (from = n_old; from > 0 && lines < LINES_MAX; from--) lines += old[from - 1] == '\n' && from < n_old;
        if (lines == LINES_MAX) from++;
        text = xprintf("%.*s%s\n", (int)(n_old - from), old ? (char *)old + from : "", line);
        if (fs_write_atomic(file, text, (int64_t)strlen(text)) != CHI_OK) { /* not this time */ }
    }
    mem_free(old);
    free(text);
    free(line);
    free(file);
    free(folder);
}

/* ---- the work ------------------------------------------------------------------------------------------------ */

/* A task: a tensor's bytes, or the numbers that they mean                                                        */
struct piece { int64_t tensor; bool numbers; };

struct verify {
    const struct packed *p;
    const struct chi_encoding_ops **encoding;   /* of each tensor; NULL: F32                                      */
    struct piece *piece; int64_t n, room;
    atomic_int *bad;                            /* of each tensor: DAMAGED, STRANGE, NO_MEMORY                     */
    uint64_t *value;                            /* of each tensor: the hash of its numbers                         */
    int64_t scratch;
};
enum { DAMAGED = 1, STRANGE = 2, NO_MEMORY = 4, STRETCH = 256 << 20 };

/* Returns what is wrong.  Of F32 the bytes are the numbers                                                         */
static int check_bytes(const struct packed_tensor *t, uint64_t *value)
{
    uint64_t hash = xxh3(t->t->data, (size_t)t->t->bytes);
    if (!*t->encoding) *value = hash;
    return hash == t->hash ? 0 : DAMAGED;
}

static int check_numbers(const struct packed_tensor *t, const struct chi_encoding_ops *e, uint64_t *value,
                         struct chi_scratch *s)
{
    int64_t groups = ceil_div(t->cols, t->group);
    int8_t *q = e->portable->integer ? chi_take(s, (size_t)(CHI_TILE * t->cols)) : NULL;
    float *scale = chi_take(s, (size_t)(CHI_TILE * groups) * sizeof *scale);
    struct packed_value *v = packed_value_begin();
    int bad = 0;
    if (!v) return NO_MEMORY;
    for (int64_t r = 0; r < t->rows; r += CHI_TILE) {
        int64_t rows = min_i64(CHI_TILE, t->rows - r);
        e->decode(t->t->data, q, scale, t->rows, t->cols, t->group, r, r + rows);
        if (!values_fit(e->values, q, scale, rows * t->cols, rows * groups)) bad = STRANGE;
        packed_value_add(v, q, rows * t->cols, scale, rows * groups);
    }
    *value = packed_value_end(v, t->t->name, t->group, q != NULL);
    return bad;
}

static void piece_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct verify *v = arg;
    const struct piece *c = &v->piece[i];
    const struct packed_tensor *t = packed_at(v->p, c->tensor);
    uint64_t *value = &v->value[c->tensor];
    atomic_fetch_or(&v->bad[c->tensor], c->numbers ? check_numbers(t, v->encoding[c->tensor], value, s)
                                                   : check_bytes(t, value));
}

static void add_piece(struct verify *v, int64_t tensor, bool numbers)
{
    if (v->n == v->room) v->piece = xrealloc(v->piece, (size_t)(v->room = 2 * v->room + 64) * sizeof *v->piece);
    v->piece[v->n++] = (struct piece){ tensor, numbers };
}

/* What its line says against its size, before anything trusts the line                                          */
static chi_status add_tensor(struct verify *v, struct registry *r, int64_t i, const struct packed_tensor *t)
{
    const struct chi_component *c;
    int64_t weights;
    add_piece(v, i, false);
    v->encoding[i] = NULL;
    if (!*t->encoding) return CHI_OK;
    TRY(registry_find(r, CHI_ENCODING, t->encoding, &c));
    const struct chi_encoding_ops *e = v->encoding[i] = c->ops;
    if (__builtin_mul_overflow(t->rows, t->cols, &weights) || weights / 64 > t->t->bytes
        || e->bytes(t->rows, t->cols, t->group) != t->t->bytes)
        return fail(CHI_EDATA, "%s: %s has %lld bytes, which is not what %s takes for %lld x %lld in groups of %lld",
                    t->path,
                    t->t->name, (long long)t->t->bytes, t->encoding, (long long)t->rows, (long long)t->cols,
                    (long long)t->group);
    add_piece(v, i, true);
    int64_t scales = round_up(ceil_div(t->cols, t->group), 16);
    v->scratch = max_i64(v->scratch, CHI_TILE * (round_up(t->cols, 64) + 4 * scales) + 128);
    return CHI_OK;
}

static chi_status verdict(const struct verify *v, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++) {
        const struct packed_tensor *t = packed_at(v->p, i);
        int bad = atomic_load(&v->bad[i]);
        if (bad & DAMAGED) {
            TRY(packed_check(t));
            return fail(CHI_EDATA, "%s: tensor %s changes while it is read", t->path, t->t->name);
        }
        if (bad & NO_MEMORY) return fail(CHI_ENOMEM, "no memory to verify %s", t->path);
        if (bad)
            return fail(CHI_EDATA,
                        "%s: %s holds numbers that are no %s weights: another program wrote it, or it was changed",
                        t->path, t->t->name, v->encoding[i]->values);
    }
    return CHI_OK;
}

/* Stretches of tensors, so that somebody can be told how far it is                                               */
static chi_status verify_all(struct verify *v, struct registry *r, int64_t total)
{
    const struct packed_tensor *t;
    struct progress progress;
    int64_t done = 0, from = 0, bytes = 0;
    chi_status s = CHI_OK;
    progress_begin(&progress, 0);
    for (int64_t i = 0; s == CHI_OK && (t = packed_at(v->p, i)); i++) {
        s = add_tensor(v, r, i, t);
        bytes += t->t->bytes;
        if (s != CHI_OK || (bytes < STRETCH && packed_at(v->p, i + 1))) continue;
        s = pool_scratch(v->scratch);
        if (s == CHI_OK) pool_run(v->n, piece_task, v);
        if (s == CHI_OK) s = verdict(v, from, i + 1);
        done += bytes, bytes = v->n = 0, from = i + 1;
        if (now_s() - progress.begun > 2) progress_part(&progress, "verifying weights", done, total);
    }
    progress_end(&progress);
    return s;
}

/* ---- what the header says of all of it ------------------------------------------------------------------------- */

static chi_status check_claim(const struct st_file *f, const char *key, uint64_t found, const char *of)
{
    char hex[20];
    const char *said = st_meta(f, key);
    snprintf(hex, sizeof hex, "%016" PRIx64, found);
    if (said && !strcmp(said, hex)) return CHI_OK;
    return fail(CHI_EDATA, "%s: its %s is %s, that of %s is %s: another program wrote it, or it was changed",
                st_path(f), key, said ? said : "missing", of, hex);
}

/* Of the manifest and the values that the header names                                                            */
static chi_status check_model_hash(const struct packed *p)
{
    const struct st_file *main = packed_file(p, 0), *f;
    const char *values = st_meta(main, "values");
    uint64_t hash;
    if (strlen(values) != 16 || strspn(values, "0123456789abcdef") != 16)
        return fail(CHI_EDATA, "%s: its values are \"%s\", wanted are 16 digits of 0-9a-f", st_path(main), values);
    TRY(packed_model_hash(packed_manifest(p), strtoull(values, NULL, 16), &hash));
    for (int i = 0; (f = packed_file(p, i)); i++) TRY(check_claim(f, "model_hash", hash, "its manifest and values"));
    return CHI_OK;
}

/* In the model's order, which is not that of the two files                                                        */
static chi_status check_values(const struct verify *v, const char *const *name, int64_t n)
{
    const struct packed_tensor *t;
    uint64_t *all = xcalloc((size_t)n, sizeof *all);
    int64_t known = 0;
    chi_status s = CHI_OK;
    for (int64_t i = 0; s == CHI_OK && i < n; i++) {
        if (!(t = packed_find(v->p, name[i])))
            s = fail(CHI_EDATA, "%s: tensor %s is missing", packed_path(v->p), name[i]);
        else all[i] = v->value[t - packed_at(v->p, 0)];
    }
    while (packed_at(v->p, known)) known++;
    if (s == CHI_OK && known != n)
        s = fail(CHI_EDATA, "%s holds %lld tensors, its configuration wants %lld", packed_path(v->p),
                 (long long)known, (long long)n);
    uint64_t hash = xxh3(all, (size_t)n * sizeof *all);
    if (s == CHI_OK) s = check_claim(packed_file(v->p, 0), "values", hash, "the numbers in it");
    free(all);
    return s;
}

chi_status packed_verify(const struct packed *p, struct registry *r, int level, const char *const *name,
                         int64_t n_name, bool *looked)
{
    const struct packed_tensor *t;
    const struct st_file *f;
    bool known = level == VERIFY_ONCE;
    int64_t n = 0, total = 0;
    TRY(check_model_hash(p));
    for (int i = 0; (f = packed_file(p, i)); i++) known = known && remembered(f);
    if (looked) *looked = !known && level != VERIFY_NO;
    if (known || level == VERIFY_NO) return CHI_OK;
    for (; (t = packed_at(p, n)); n++) total += t->t->bytes;
    struct verify v = { .p = p, .encoding = xcalloc((size_t)n, sizeof *v.encoding),
                        .bad = xcalloc((size_t)n, sizeof *v.bad),
                        .value = xcalloc((size_t)n, sizeof *v.value), .scratch = 64 };
    chi_status s = verify_all(&v, r, total);
    if (s == CHI_OK) s = check_values(&v, name, n_name);
    for (int i = 0; s == CHI_OK && (f = packed_file(p, i)); i++) remember(f);
    free(v.encoding);
    free(v.bad);
    free(v.value);
    free(v.piece);
    return s;
}
