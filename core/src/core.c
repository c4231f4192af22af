/* core.c - errors, messages, counted memory and small helpers; see core.h.      */
#include "core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <xxhash.h>

/* ---- errors --------------------------------------------------------------- */

static _Thread_local char *last;

static void keep(char *text)
{
    free(last);
    last = text;
}

static char *vprintf_new(const char *fmt, va_list a)
{
    va_list b;
    va_copy(b, a);
    int n = vsnprintf(NULL, 0, fmt, b);
    va_end(b);
    char *s = xcalloc((size_t)n + 1, 1);
    vsnprintf(s, (size_t)n + 1, fmt, a);
    return s;
}

chi_status fail(chi_status s, const char *fmt, ...)
{
    va_list a;
    va_start(a, fmt);
    keep(vprintf_new(fmt, a));
    va_end(a);
    return s;
}

chi_status fail_errno(chi_status s, const char *fmt, ...)
{
    int e = errno;
    va_list a;
    va_start(a, fmt);
    char *text = vprintf_new(fmt, a);
    va_end(a);
    keep(xprintf("%s: %s", text, strerror(e)));
    free(text);
    return e == ENOSPC || e == EDQUOT || e == EFBIG || e == ENOMEM ? CHI_ENOMEM : s;
}

const char *fail_text(void)
{
    return last ? last : "unknown failure";
}

int exit_code(chi_status s)
{
    switch (s) {
    case CHI_OK:      return 0;
    case CHI_ECONF:
    case CHI_ESHAPE:  return 2;
    case CHI_EDATA:   return 3;
    case CHI_EPLUGIN: return 4;
    case CHI_ENOMEM:  return 5;
    default:          return 1;
    }
}

/* ---- messages ------------------------------------------------------------- */

static FILE *copy;
static bool line_open;                      /* a status line stands there       */

void log_file(FILE *f)
{
    copy = f;
}

/* A line longer than the terminal is wide would wrap and leave its first part behind  */
void status_line(const char *text)
{
    struct winsize w = { 0 };
    if (!text && !line_open) return;
    int room = ioctl(2, TIOCGWINSZ, &w) == 0 && w.ws_col > 1 ? w.ws_col - 1 : 79;
    fprintf(stderr, "\r%.*s\033[K", room, text ? text : "");
    fflush(stderr);
    line_open = text != NULL;
}

static void say(const char *level, const char *fmt, va_list a)
{
    char *text = vprintf_new(fmt, a);
    status_line(NULL);
    fprintf(stderr, "chimera: %s%s\n", level, text);
    if (copy) {
        fprintf(copy, "chimera: %s%s\n", level, text);
        fflush(copy);
    }
    free(text);
}

void note(const char *fmt, ...)
{
    va_list a;
    va_start(a, fmt);
    say("", fmt, a);
    va_end(a);
}

void warn(const char *fmt, ...)
{
    va_list a;
    va_start(a, fmt);
    say("warning: ", fmt, a);
    va_end(a);
}

/* ---- large memory --------------------------------------------------------- */

/* A block begins 64 bytes before the address handed out, with its size.  Blocks
 * from 1 MiB on are mapped, so that they are zero without being touched and go
 * back to the system when freed; whole huge pages of 2 MiB, which spare a decode
 * step an eighth of its time against pages of 4 KB.                            */
enum { HEAD = 64, MAPPED = 1 << 20, HUGE_PAGE = 2 << 20 };
struct head { size_t bytes; bool mapped; };

static int64_t used, limit;
static const struct mem_source *source;

static int64_t read_number(const char *path, const char *key)
{
    char line[256];
    int64_t n = -1;
    FILE *f = fopen(path, "r");
    if (!f) return -1;
    while (n < 0 && fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key))) {
            char *end, *from = line + strlen(key);
            n = strtoll(from, &end, 10);
            if (end == from) n = -1;
        }
    fclose(f);
    return n;
}

int64_t mem_available(void)
{
    int64_t kb = read_number("/proc/meminfo", "MemAvailable:");
    int64_t have = kb < 0 ? INT64_MAX : kb * 1024;
    int64_t cap = read_number("/sys/fs/cgroup/memory.max", "");
    int64_t now = read_number("/sys/fs/cgroup/memory.current", "");
    if (cap <= 0 || now < 0) return have;
    /* current counts cached files, too, which give way to whoever needs memory   */
    int64_t old = read_number("/sys/fs/cgroup/memory.stat", "inactive_file ");
    int64_t hot = read_number("/sys/fs/cgroup/memory.stat", "active_file ");
    int64_t room = cap - now + max_i64(0, old) + max_i64(0, hot);
    return min_i64(have, max_i64(0, room));
}

void mem_limit(int64_t bytes)
{
    limit = bytes;
}

int64_t mem_used(void)
{
    return __atomic_load_n(&used, __ATOMIC_RELAXED);
}

chi_status mem_check(int64_t bytes, const char *what)
{
    char need[32], have[32];
    int64_t room = limit ? limit - mem_used() : mem_available();
    if (bytes <= room) return CHI_OK;
    human_bytes(need, bytes);
    human_bytes(have, max_i64(room, 0));
    return fail(CHI_ENOMEM, "%s needs %s of memory, %s %s: lower the sizes%s", what, need, have,
                limit ? "are left of run.memory_limit_mb" : "are available on this machine",
                limit ? " or raise run.memory_limit_mb" : "");
}

void mem_source(const struct mem_source *s)
{
    source = s;
}

static size_t mapped_length(size_t total)
{
    return (total + HUGE_PAGE - 1) & ~(size_t)(HUGE_PAGE - 1);
}

/* Mapped pages from a multiple of HUGE_PAGE on, or NULL                         */
static unsigned char *map_pages(size_t total)
{
    size_t length = mapped_length(total);
    unsigned char *p = mmap(NULL, length + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    size_t before = (size_t)(-(uintptr_t)p & (HUGE_PAGE - 1));
    if (before) munmap(p, before);
    p += before;
    if (before < HUGE_PAGE) munmap(p + length, HUGE_PAGE - before);
#ifdef MADV_HUGEPAGE
    madvise(p, length, MADV_HUGEPAGE);
#endif
    return p;
}

void *mem_take(size_t bytes, const char *what)
{
    if (bytes > (size_t)INT64_MAX / 2) {                /* the sum below must not wrap */
        fail(CHI_ENOMEM, "%s: %zu bytes are more than any machine has", what, bytes);
        return NULL;
    }
    size_t total = (bytes + HEAD + 63) & ~(size_t)63;
    bool mapped = total >= MAPPED && !WEBASSEMBLY;      /* whose munmap() knows no parts */
    unsigned char *p = source ? source->take(bytes, what) : NULL;
    if (p) return p;

    if ((limit || mapped) && mem_check((int64_t)total, what) != CHI_OK) return NULL;
    if (mapped) p = map_pages(total);
    else if ((p = aligned_alloc(64, total)))
        memset(p, 0, total);
    if (!p) {
        fail(CHI_ENOMEM, "%s: the system has no %zu bytes of memory", what, bytes);
        return NULL;
    }
    *(struct head *)(void *)p = (struct head){ total, mapped };
    __atomic_add_fetch(&used, (int64_t)total, __ATOMIC_RELAXED);
    return p + HEAD;
}

void mem_free(void *block)
{
    if (!block || (source && source->drop(block))) return;
    unsigned char *p = (unsigned char *)block - HEAD;
    struct head h = *(struct head *)(void *)p;
    __atomic_sub_fetch(&used, (int64_t)h.bytes, __ATOMIC_RELAXED);
    if (h.mapped) munmap(p, mapped_length(h.bytes));
    else free(p);
}

int64_t rss_bytes(void)
{
    int64_t kb = read_number("/proc/self/status", "VmRSS:");
    return kb < 0 ? 0 : kb * 1024;
}

/* ---- small memory --------------------------------------------------------- */

static void out_of_memory(void)
{
    static const char text[] = "chimera: out of memory\n";
    if (write(2, text, sizeof text - 1) < 0) { /* nothing left to do */ }
    _exit(5);
}

void *xcalloc(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size ? size : 1);
    if (!p) out_of_memory();
    return p;
}

void *xrealloc(void *p, size_t bytes)
{
    p = realloc(p, bytes ? bytes : 1);
    if (!p) out_of_memory();
    return p;
}

char *xstrdup(const char *s)
{
    size_t n = strlen(s) + 1;
    return memcpy(xcalloc(n, 1), s, n);
}

char *xprintf(const char *fmt, ...)
{
    va_list a;
    va_start(a, fmt);
    char *s = vprintf_new(fmt, a);
    va_end(a);
    return s;
}

/* ---- suggestions ---------------------------------------------------------- */

enum { WORD_MAX = 64 };                 /* nobody slips in longer words          */

/* Levenshtein distance with neighbours swapped counted as one (Damerau).        */
static int distance(const char *a, const char *b)
{
    int n = (int)strlen(a), m = (int)strlen(b), d[3][WORD_MAX + 1];
    if (n >= WORD_MAX || m >= WORD_MAX) return WORD_MAX;
    for (int j = 0; j <= m; j++) d[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *row = d[i % 3], *up = d[(i + 2) % 3], *up2 = d[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = up[j - 1] + (a[i - 1] != b[j - 1]);
            if (up[j] + 1 < best) best = up[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]
                && up2[j - 2] + 1 < best)
                best = up2[j - 2] + 1;
            row[j] = best;
        }
    }
    return d[n % 3][m];
}

const char *closest(const char *word, const char *const *names)
{
    const char *best = NULL;
    int n = (int)strlen(word), least = n < 3 ? 1 : n / 3;
    if (n < 2 || n >= WORD_MAX) return NULL;
    for (; *names; names++) {
        int d = distance(word, *names);
        if (d <= least && (d < least || !best)) best = *names, least = d;
    }
    return best;
}

/* ---- the rest ------------------------------------------------------------- */

double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Field 22 of /proc/self/stat: ticks between the machine's start and ours.  The program's name, in
 * parentheses, may hold anything.                                                */
double process_start(void)
{
    double now = now_s(), start = now;
#ifdef CLOCK_BOOTTIME
    char text[1024];
    struct timespec t;
    FILE *f = fopen("/proc/self/stat", "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[n] = 0;
    const char *p = strrchr(text, ')');
    for (int i = 2; p && i < 22; i++) p = strchr(p + 1, ' ');
    if (p && clock_gettime(CLOCK_BOOTTIME, &t) == 0)
        start = now - ((double)t.tv_sec + 1e-9 * (double)t.tv_nsec - strtod(p, NULL) / (double)sysconf(_SC_CLK_TCK));
#endif
    return start <= now ? start : now;
}

uint64_t xxh3(const void *p, size_t n)
{
    return XXH3_64bits(p, n);
}

void human_bytes(char out[32], int64_t n)
{
    static const char *const unit[] = { "bytes", "kB", "MB", "GB", "TB" };
    double x = (double)n;
    int u = 0;
    while (x >= 999.5 && u < 4) x /= 1000, u++;
    snprintf(out, 32, u && x < 9.95 ? "%.1f %s" : "%.0f %s", x, unit[u]);
}

void human_count(char out[32], int64_t n)
{
    static const char *const unit[] = { "", " k", " M", " G" };
    double x = (double)n;
    int u = 0;
    while (x >= 999.5 && u < 3) x /= 1000, u++;
    snprintf(out, 32, u ? "%.2f%s" : "%.0f%s", x, unit[u]);
}
