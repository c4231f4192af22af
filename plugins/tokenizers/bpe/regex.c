/* regex.c - see regex.h.  PCRE2 is no dependency: the library is loaded when a tokenizer.json has an expression
 * that split.c does not know, and is asked for by its stable 8-bit interface, whose numbers stand here.  \s is
 * White_Space and ^ and $ stand at lines, as in the library that such files are written for.  Texts
 * are valid UTF-8 (bpe_shown), or else no match spans what is not.                                            */
#include "regex.h"

#include <dlfcn.h>
#include <string.h>

enum { PCRE2_MULTILINE = 0x00000400, PCRE2_UCP = 0x00020000,
       PCRE2_UTF = 0x00080000, PCRE2_MATCH_INVALID_UTF = 0x04000000, PCRE2_JIT_COMPLETE = 1,
       PCRE2_NO_JIT = 0x2000, NO_MATCH = -1,
       OPTIONS = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_MATCH_INVALID_UTF };

static struct {
    void  *(*compile)(const unsigned char *pattern, size_t n, uint32_t options, int *error, size_t *at,
                      void *context);
    int    (*jit)(void *code, uint32_t options);
    void  *(*general)(void *(*take)(size_t, void *), void (*drop)(void *, void *), void *data);
    void  *(*compiling)(void *general);
    void  *(*data)(uint32_t pairs, void *general);
    void   (*free_data)(void *data);
    int    (*match)(const void *code, const unsigned char *text, size_t n, size_t from, uint32_t options, void *data,
                    void *context);
    size_t *(*places)(void *data);
    void  *(*matching)(void *general);
    int    (*match_limit)(void *context, uint32_t limit);
    int    (*depth_limit)(void *context, uint32_t limit);
    int    (*heap_limit)(void *context, uint32_t limit);
    int    (*message)(int error, unsigned char *text, size_t room);
} pcre2;                                    /* the same for all instances, set by the first    */

static bool load(void)
{
    static const struct { const char *name; void **to; } symbol[] = {
        { "pcre2_compile_8", (void **)&pcre2.compile }, { "pcre2_jit_compile_8", (void **)&pcre2.jit },
        { "pcre2_general_context_create_8", (void **)&pcre2.general },
        { "pcre2_compile_context_create_8", (void **)&pcre2.compiling },
        { "pcre2_match_data_create_8", (void **)&pcre2.data },
        { "pcre2_match_data_free_8", (void **)&pcre2.free_data },
        { "pcre2_match_8", (void **)&pcre2.match }, { "pcre2_get_ovector_pointer_8", (void **)&pcre2.places },
        { "pcre2_match_context_create_8", (void **)&pcre2.matching },
        { "pcre2_set_match_limit_8", (void **)&pcre2.match_limit },
        { "pcre2_set_depth_limit_8", (void **)&pcre2.depth_limit },
        { "pcre2_set_heap_limit_8", (void **)&pcre2.heap_limit },
        { "pcre2_get_error_message_8", (void **)&pcre2.message },
    };
    if (pcre2.match) return true;
    void *library = dlopen("libpcre2-8.so.0", RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; library && i < sizeof symbol / sizeof *symbol; i++)
        if (!(*symbol[i].to = dlsym(library, symbol[i].name))) library = NULL;
    return library != NULL;
}

struct regex {
    void *code, *limits;                    /* limits: a match context                       */
};

/* What is compiled lives as long as the instance                                                */
static void *take(size_t bytes, void *host)
{
    const struct chi_host *h = host;
    return h->alloc(h, bytes);
}

static void drop(void *p, void *host)
{
    (void)p, (void)host;
}

/* \s and \S as properties, \uHHHH as \x{HHHH}                                                    */
static char *translate(const struct chi_host *h, const char *pattern)
{
    enum { MOST = 16 };                         /* bytes that two become                          */
    size_t n = strlen(pattern), used = 0;
    char *out = h->alloc(h, n * MOST + 1);
    for (size_t i = 0; out && i < n; i++) {
        char c = pattern[i], escaped = c == '\\' && i + 1 < n ? pattern[i + 1] : 0;
        const char *word = escaped == 's' ? "\\p{White_Space}" : escaped == 'S' ? "\\P{White_Space}" : NULL;
        size_t digits = escaped == 'u' ? strspn(pattern + i + 2, "0123456789abcdefABCDEF") : 0;
        if (word) {
            memcpy(out + used, word, strlen(word));
            used += strlen(word);
        } else if (digits >= 4) {
            memcpy(out + used, "\\x{", 3);
            memcpy(out + used + 3, pattern + i + 2, 4);
            out[used + 7] = '}';
            used += 8;
            i += 4;
        } else {
            out[used++] = c;
            if (escaped) out[used++] = escaped;
        }
        i += escaped != 0;
    }
    return out;
}

chi_status bpe_regex_open(const struct chi_host *h, const char *name, const char *pattern, const void **code)
{
    int error = 0;
    size_t at = 0;
    if (!load())
        return h->fail(h, CHI_ENOTSUP,
                       "%s: its split expression needs the library PCRE2, which this machine does not have: "
                       "install libpcre2-8-0 (%s)", name, pattern);
    char *text = translate(h, pattern);
    void *general = pcre2.general(take, drop, (void *)(uintptr_t)h),
        *context = general ? pcre2.compiling(general) : NULL;
    if (!text || !context) return CHI_ENOMEM;
    void *c = pcre2.compile((const unsigned char *)text, strlen(text), OPTIONS, &error, &at, context);
    if (!c) {
        unsigned char why[160] = "";
        pcre2.message(error, why, sizeof why);
        return h->fail(h, CHI_EDATA, "%s: split expression %s: %s", name, pattern, (const char *)why);
    }
    pcre2.jit(c, PCRE2_JIT_COMPLETE);           /* without it the same matches, slower           */
    struct regex *r = h->alloc(h, sizeof *r);
    if (!r || !(r->limits = pcre2.matching(general))) return CHI_ENOMEM;
    pcre2.match_limit(r->limits, UINT32_MAX);   /* memory alone ends a search                    */
    pcre2.depth_limit(r->limits, UINT32_MAX);
    pcre2.heap_limit(r->limits, UINT32_MAX);
    r->code = c;
    *code = r;
    return CHI_OK;
}

/* JIT's stack is 32 KiB: runs of thousands of characters may need more, and PCRE2's own search takes it
 * from the heap                                                                                  */
static int search(const struct regex *r, const unsigned char *text, int64_t n, int64_t from, void *data)
{
    int answer = pcre2.match(r->code, text, (size_t)n, (size_t)from, 0, data, r->limits);
    if (answer >= NO_MATCH) return answer;
    return pcre2.match(r->code, text, (size_t)n, (size_t)from, PCRE2_NO_JIT, data, r->limits);
}

/* Behind the character that begins at i                                                           */
static int64_t next_character(const unsigned char *text, int64_t n, int64_t i)
{
    do i++;
    while (i < n && (text[i] & 0xc0) == 0x80);
    return i;
}

int bpe_regex_match(const void *code, const unsigned char *text, int64_t n, int64_t from, int64_t *begin,
                    int64_t *end)
{
    void *data = pcre2.data(1, NULL);
    int found = data ? 0 : -1;
    while (!found && from <= n) {
        int answer = search(code, text, n, from, data);
        if (answer < 0) {
            found = answer == NO_MATCH ? 0 : -1;
            break;
        }
        const size_t *place = pcre2.places(data);
        *begin = (int64_t)place[0];
        *end = (int64_t)place[1];
        found = *end > *begin;
        from = next_character(text, n, *end);
    }
    if (data) pcre2.free_data(data);
    return found;
}
