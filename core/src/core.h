/* core.h - errors, messages and small helpers that every file of the core uses. */
#ifndef CORE_H
#define CORE_H

#include <chimera/base.h>
#include <stdarg.h>
#include <stdio.h>

#define CHIMERA_VERSION "0.1.0"

/* ---- errors ---------------------------------------------------------------
 * Who detects a failure says why, once: return fail(CHI_EIO, "...").  The text
 * stays until the top prints it; callers in between only pass the status on.
 * Texts are one line: what was found, what was wanted, where, what to do.      */
chi_status fail(chi_status, const char *fmt, ...) CHI_PRINTF(2, 3);
chi_status fail_errno(chi_status, const char *fmt, ...) CHI_PRINTF(2, 3); /* ": strerror" */
const char *fail_text(void);            /* of this thread's last fail()          */
int exit_code(chi_status);              /* 0 ok, 1 run, 2 config, 3 data, 4 plugin, 5 memory or disk */

#define TRY(e) do { chi_status try_ = (e); if (try_ != CHI_OK) return try_; } while (0)

/* ---- messages to a person (stderr) ---------------------------------------- */
void note(const char *fmt, ...) CHI_PRINTF(1, 2);      /* "chimera: ..."         */
void warn(const char *fmt, ...) CHI_PRINTF(1, 2);      /* "chimera: warning: ..."*/
void log_file(FILE *);                  /* messages go there, too; NULL: no more */
/* The line at the bottom of a terminal, cut to its width; NULL: none.  note() and
 * warn() clear it first.                                                        */
void status_line(const char *text);

/* ---- memory ---------------------------------------------------------------
 * Large blocks: 64-byte aligned, zeroed, counted against the limit of
 * run.memory_limit_mb before they are taken.  NULL only with fail() said.      */
void  mem_limit(int64_t bytes);         /* 0: what the machine has available     */
int64_t mem_available(void);            /* MemAvailable and the cgroup's limit   */
void *mem_take(size_t bytes, const char *what) CHI_MUST_CHECK;
void  mem_free(void *);                 /* NULL is fine                          */
int64_t mem_used(void);
chi_status mem_check(int64_t bytes, const char *what); /* would mem_take succeed? */
/* Another place that large blocks come from, while a plugin is proved (core/validate/guard.h).
 * take answers NULL, and drop false, for blocks that it leaves to mem_take().   */
struct mem_source {
    void *(*take)(size_t bytes, const char *what);
    bool  (*drop)(void *);
};
void mem_source(const struct mem_source *);             /* for good              */
int64_t rss_bytes(void);

/* Small ones.  They end the program with exit code 5 when memory is out.       */
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *, size_t bytes);
char *xstrdup(const char *);
char *xprintf(const char *fmt, ...) CHI_PRINTF(1, 2);  /* caller frees           */

/* ---- suggestions ----------------------------------------------------------
 * The candidate closest to word (edit distance at most a third of its length), or
 * NULL.  names is NULL-terminated.                                             */
const char *closest(const char *word, const char *const *names);

/* One process, one thread, no signals, and plugins are side modules; see doc/wasm.md     */
#ifdef __EMSCRIPTEN__
enum { WEBASSEMBLY = 1 };
#else
enum { WEBASSEMBLY = 0 };
#endif

double now_s(void);                     /* monotonic seconds                     */
double process_start(void);             /* when exec() was, in them, to 10 ms; now, if nobody says */
uint64_t xxh3(const void *, size_t);    /* XXH3-64 of bytes                      */
void human_bytes(char out[32], int64_t bytes);         /* "1.5 MB"               */
void human_count(char out[32], int64_t n);             /* "5.78 M"               */

#define COUNT(a) ((int64_t)(sizeof(a) / sizeof *(a)))
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

#endif
