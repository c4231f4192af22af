/* manifest.c - checks of the plugin file: what it says about itself, what it calls.
 *
 * The loader has refused the worst before any of this runs: wrong magic, ABI or layout, a
 * name that is not the file's, a second exported symbol, missing operations, options without
 * a documented default in range.  Here come habits that the loader lets pass.            */
#include "validate.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "elf_reader.h"
#include "wasm_reader.h"

/* ---- manifest ------------------------------------------------------------------------- */

static void check_text(struct trial *t, const char *where, const char *text, bool sentence)
{
    size_t n = text ? strlen(text) : 0;
    if (!n) return;                     /* required ones are the loader's concern       */
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 32 || (unsigned char)text[i] > 126) {
            trial_fail(t, "%s: byte %zu is 0x%02x, wanted is printable ASCII: '%s'", where, i + 1,
                       (unsigned)(unsigned char)text[i], text);
            break;
        }
    if (isspace((unsigned char)text[0]) || isspace((unsigned char)text[n - 1]))
        trial_fail(t, "%s begins or ends with a blank: '%s'", where, text);
    if (sentence && text[n - 1] == '.' && (n < 4 || strcmp(text + n - 4, "etc.") != 0))
        trial_fail(t, "%s ends with a full stop, wanted is none: '%s'", where, text);
}

/* "2412.06464 2405.04517": numbers of arXiv                                             */
static void check_papers(struct trial *t, const char *where, const char *text)
{
    for (const char *at = text; at && *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " "), a = strspn(at, "0123456789");
        bool good = a == 4 && at[4] == '.' && (n == 9 || n == 10) && strspn(at + 5, "0123456789") >= n - 5;
        if (!good) trial_fail(t, "%s: papers has '%.*s', wanted are arXiv numbers such as 2412.06464", where, (int)n,
                              at);
        at += n;
    }
}

static void check_option(struct trial *t, const char *component, const struct chi_option *o)
{
    char *where = xprintf("%s: option %s: doc", component, o->name);
    check_text(t, where, o->doc, true);
    free(where);
    if (o->type == CHI_OPT_INT && (o->min < -9007199254740992.0 || o->max > 9223372036854775807.0))
        trial_fail(t, "%s: option %s: its bounds %g..%g do not fit into 64 bits", component, o->name, o->min, o->max);
    if ((o->flags & CHI_OPT_SHAPE) && (o->flags & CHI_OPT_RUNTIME))
        trial_fail(t, "%s: option %s is SHAPE and RUNTIME, wanted is one: does it decide what weights mean?",
                   component, o->name);
    if ((o->flags & CHI_OPT_REQUIRED) && o->fallback)
        trial_fail(t, "%s: option %s is REQUIRED and has the default '%s', wanted is one of the two", component,
                   o->name, o->fallback);
}

static void check_layer_caps(struct trial *t, const char *where, const struct chi_component *c)
{
    const struct chi_layer_ops *o = c->ops;
    uint32_t known = CHI_LAYER_CAUSAL | CHI_LAYER_STATELESS | CHI_LAYER_SPLIT_FREE | CHI_LAYER_NO_GRAD
                   | CHI_LAYER_NO_TRAIL;
    if (c->caps & ~known)
        trial_fail(t, "%s: caps has the unknown bits 0x%x - use CHI_LAYER_CAUSAL and its like", where,
                   c->caps & ~known);
    if ((c->caps & CHI_LAYER_NO_GRAD) && o->backward)
        trial_fail(t, "%s: caps says CHI_LAYER_NO_GRAD, but backward is there - remove one", where);
}

static void check_component(struct trial *t, const struct chi_component *c)
{
    char *where = xprintf("%s %s", kind_name(c->kind), c->name), *summary = xprintf("%s: summary", where);
    check_text(t, summary, c->summary, true);
    check_papers(t, where, c->papers);
    if (c->revision < 1)
        trial_fail(t, "%s: revision is 0, wanted is 1 for the first form of parameters and state", where);
    if (c->kind == CHI_LAYER) check_layer_caps(t, where, c);
    for (const struct chi_option *o = c->options; o && o->name; o++) check_option(t, where, o);
    free(summary);
    free(where);
}

static void manifest(struct trial *t)
{
    const struct chi_plugin *p = t->plugin->plugin;
    check_text(t, "summary", p->summary, true);
    check_text(t, "version", p->version, false);
    check_text(t, "license", p->license, false);
    check_text(t, "url", p->url, false);
    if (p->version && !isdigit((unsigned char)p->version[0]))
        trial_fail(t, "version is '%s', wanted is a number such as 1.0", p->version);
    for (int i = 0; p->components[i]; i++) check_component(t, p->components[i]);
}

/* ---- imports --------------------------------------------------------------------------- */

static bool listed(const char *words, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = words; *at; at += strspn(at, " ")) {
        size_t m = strcspn(at, " ");
        bool tail = m > 1 && at[m - 1] == '*';
        if (tail ? !strncmp(at, name, m - 1) : m == n && !memcmp(at, name, n)) return true;
        at += m;
    }
    return false;
}

/* Memory and text without side effects, and what compilers add                          */
static const char plain[] =
    "memcpy memmove memset memcmp memchr strlen strnlen strcmp strncmp strchr strrchr strstr strcpy strncpy strcat "
    "strspn strcspn strtol strtoll strtoul strtoull strtod strtof bsearch abs labs llabs snprintf vsnprintf "
    "__memcpy_chk __memmove_chk __memset_chk __strcpy_chk __strncpy_chk __strcat_chk __snprintf_chk __vsnprintf_chk "
    "__ctype_b_loc __ctype_tolower_loc __ctype_toupper_loc isalpha isdigit isspace isupper islower isalnum "
    "tolower toupper "
    "__errno_location __stack_chk_fail __tls_get_addr __cxa_finalize __asan_* __ubsan_* __tsan_* __gcov_* "
    "__popcountdi2 __divti3 __udivti3 __modti3 __umodti3 __isoc23_strtol __isoc23_strtoll __isoc23_strtoul "
    "__isoc23_strtoull";
/* Good enough for set-up; what runs per token takes chimera/math.h                      */
static const char maths[] =
    "exp exp2 exp10 expm1 log log2 log10 log1p pow sqrt cbrt hypot sin cos tan sincos asin acos atan atan2 sinh "
    "cosh tanh asinh acosh atanh erf erfc lgamma tgamma floor ceil round trunc rint nearbyint lround llround "
    "lrint llrint fmod remainder modf frexp ldexp scalbn scalbln logb ilogb fabs fmin fmax fdim fma copysign "
    "nextafter __isnan __isinf __finite __fpclassify __signbit exp_finite log_finite pow_finite";

static const struct { const char *names, *why; } forbidden[] = {
    { "malloc calloc realloc free aligned_alloc posix_memalign memalign valloc strdup strndup asprintf vasprintf "
      "mmap munmap brk sbrk _Znwm _ZdlPv",
      "memory is host->alloc(), plan->state(), array() and scratch(), which the core counts and frees" },
    { "printf fprintf vprintf vfprintf puts putchar fputs fputc fwrite perror write __printf_chk __fprintf_chk "
      "__vfprintf_chk stdout stderr syslog", "messages go through host->log() and host->fail()" },
    { "fork vfork exec* posix_spawn* system popen clone wait waitpid kill raise signal sigaction",
      "processes are the core's" },
    { "exit _exit _Exit abort quick_exit atexit __assert_fail longjmp _longjmp siglongjmp __longjmp_chk",
      "a plugin never ends the program: return h->fail(...)" },
    { "pthread_* thrd_* mtx_* cnd_* sem_* GOMP_* omp_* __kmpc_*",
      "threads are host->parallel(), which gives the same bits for any number" },
    { "getenv secure_getenv setenv putenv environ setlocale",
      "options come from the INI file through the option table" },
    { "rand srand rand_r random srandom drand48 getrandom getentropy arc4random*",
      "random numbers are host->random(), a function of seed, stream and position" },
    { "time clock clock_gettime gettimeofday localtime* gmtime* nanosleep usleep sleep",
      "a result depends on its inputs alone, not on when it was asked for" },
    { "fopen open openat read fread fgets fscanf fclose close stat lseek opendir readdir socket connect",
      "files are read by host->service(h, \"chimera.files/1\")" },
};
static const char libraries[] = "dlopen dlsym dlerror dlclose";

struct imports { struct trial *t; bool strict, library; };

static void judge_import(void *ctx, const char *name)
{
    const struct imports *i = ctx;
    char plain_name[64];
    snprintf(plain_name, sizeof plain_name, "%s", name);
    size_t n = strlen(plain_name);
    if (listed(plain, name) || listed(maths, name)) return;
    if (n > 1 && (plain_name[n - 1] == 'f' || plain_name[n - 1] == 'l')) {
        plain_name[n - 1] = 0;                                  /* expf, expl            */
        if (listed(maths, plain_name)) return;
    }
    if (i->library && listed(libraries, name)) return;
    const char *why = "it is not among the functions of libc and libm that plugins may call (doc/validate.md)";
    for (int64_t k = 0; k < COUNT(forbidden); k++)
        if (listed(forbidden[k].names, name)) why = forbidden[k].why;
    if (i->strict) trial_fail(i->t, "calls %s: %s", name, why);
    else trial_warn(i->t, "calls %s: %s", name, why);
}

/* What runs while a model computes must be pure; what reads data at the start may do more */
static bool strict_kind(int kind)
{
    return kind != CHI_TOKENIZER && kind != CHI_TASK;
}

/* A backend may wrap a library, and a tokenizer one for regular expressions                 */
static bool may_load(int kind)
{
    return kind == CHI_BACKEND || kind == CHI_TOKENIZER;
}

static void imports(struct trial *t)
{
    char why[160];
    struct imports i = { .t = t };
    if (t->plugin->path[0] != '/') {
        trial_skip(t, "linked into the program: it has no imports of its own");
        return;
    }
    for (int k = 0; t->plugin->plugin->components[k]; k++) {
        i.strict |= strict_kind(t->plugin->plugin->components[k]->kind);
        i.library |= may_load(t->plugin->plugin->components[k]->kind);
    }
    FILE *f = fopen(t->plugin->path, "rb");
    long n = f && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    unsigned char *bytes = n > 0 ? xcalloc((size_t)n, 1) : NULL;
    if (bytes) rewind(f);
    if (!bytes || fread(bytes, 1, (size_t)n, f) != (size_t)n) trial_fail(t, "the file cannot be read again");
    else if (!(WEBASSEMBLY ? wasm_imports : elf_imports)(bytes, n, judge_import, &i, why)) trial_fail(t, "%s", why);
    if (f) fclose(f);
    free(bytes);
}

const struct check checks_manifest[] = {
    { "manifest", 0, 30, "the loader accepts the file; names, texts, papers, flags and capabilities are in order",
      manifest },
    { "imports",  0, 30, "it calls nothing but libm, mem* and str* functions and snprintf", imports },
    { 0 }
};
