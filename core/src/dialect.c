/* dialect.c - our INI dialect: stock libinih behind a reader that sees every raw line.
 *
 * libinih cuts lines at 200 bytes and section names at 49, knows no line numbers,
 * takes every indented line for a continuation and ends a value at " ;" even within
 * quotes.  So the reader classifies each raw line, drops comments, and hands libinih
 * only text on which all of this is harmless:
 *
 *     key = |first piece|
 *      |next piece|            (an indented line: the handler is called again)
 *
 * The bars keep blanks at the ends of a piece; the handler takes them off and joins
 * the pieces, so a value may be as long as its line.
 *
 * A value is bare (blanks around it do not count, " ;" begins a comment) or
 * "quoted" with \\ \" \n \t \xHH.  An indented line without "name =" continues the
 * value above it, joined with one blank.                                       */
#include "dialect.h"
#include "core.h"

#include <ctype.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

struct text { char *s; size_t n, cap; };

static void add(struct text *t, const char *s, size_t n)
{
    if (t->n + n + 1 > t->cap) {
        t->cap = 2 * t->cap + n + 64;
        t->s = xrealloc(t->s, t->cap);
    }
    memcpy(t->s + t->n, s, n);
    t->s[t->n += n] = 0;
}

struct reader {
    const char *at, *end;               /* the rest of the file                  */
    const struct ini_events *ev;
    int  line;                          /* of the raw line last taken            */
    char section[INI_NAME_MAX + 1], key[INI_NAME_MAX + 1];
    int  key_line;                      /* 0: no key is open                     */
    bool dead;                          /* the section's header was refused      */
    bool bad;                           /* the open key's value is not usable    */
    struct text value;                  /* what libinih gave back so far         */
    struct text feed;                   /* what it has yet to see of this line   */
    size_t fed;
    bool first;                         /* the next piece is the key's first     */
};

static void CHI_PRINTF(2, 3) wrong(struct reader *r, const char *fmt, ...)
{
    char text[400];
    va_list a;
    va_start(a, fmt);
    vsnprintf(text, sizeof text, fmt, a);
    va_end(a);
    r->ev->error(r->ev->to, r->line, text);
}

static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

bool ini_name_char(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("_.-*?", c));
}

/* ---- checks of bytes ------------------------------------------------------- */

/* Length of the UTF-8 sequence at s (RFC 3629), or 0                           */
static size_t utf8_length(const unsigned char *s, size_t n)
{
    size_t len = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
               : (s[0] & 0xf0) == 0xe0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;
    if (!len || len > n) return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)) return 0;
    if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
    return len;
}

bool utf8_valid(const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    for (size_t i = 0, len; i < n; i += len)
        if (!(len = utf8_length(u + i, n - i))) return false;
    return true;
}

char *shown(const char *s)
{
    enum { MOST = 60 };
    size_t n = strlen(s), i = 0;
    struct text t = { 0 };
    add(&t, "", 0);
    while (i < n && t.n < MOST) {
        size_t len = utf8_length((const unsigned char *)s + i, n - i);
        bool odd = !len || (len == 1 && ((unsigned char)s[i] < 32 || s[i] == 127));
        add(&t, odd ? "?" : s + i, odd ? 1 : len);
        i += len ? len : 1;
    }
    if (i < n) add(&t, "...", 3);
    return t.s;
}

static bool bytes_ok(struct reader *r, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (((unsigned char)s[i] < 32 && s[i] != '\t') || s[i] == 127) {
            wrong(r, "%s in column %zu: the file must be plain UTF-8 text",
                  s[i] ? "a control character" : "a NUL byte", i + 1);
            r->at = r->end;                     /* once is enough for a binary file     */
            return false;
        }
    if (!utf8_valid(s, n)) {
        wrong(r, "bytes that are no UTF-8: save the file as UTF-8");
        return false;
    }
    return true;
}

/* ---- quoted values ---------------------------------------------------------- */

/* Appends the quoted text at s to the feed, with everything that libinih minds as
 * \xHH; returns what follows the closing quote, or NULL with the error said.    */
static const char *feed_quoted(struct reader *r, const char *s, const char *end)
{
    add(&r->feed, s++, 1);
    for (; s < end && *s != '"'; s++) {
        char hex[5];
        if (*s == '\\') {
            bool two = s + 1 < end && strchr("\\\"nt", s[1]) && s[1];
            bool four = s + 3 < end && s[1] == 'x' && isxdigit((unsigned char)s[2])
                      && isxdigit((unsigned char)s[3]) && (s[2] != '0' || s[3] != '0');
            if (!two && !four) {
                wrong(r, "within quotes a backslash needs one of \\\\ \\\" \\n \\t \\xHH after it");
                return NULL;
            }
            add(&r->feed, s, two ? 2 : 4);
            s += two ? 1 : 3;
        } else if (blank(*s) || *s == ';') {
            snprintf(hex, sizeof hex, "\\x%02x", (unsigned char)*s);
            add(&r->feed, hex, 4);
        } else {
            add(&r->feed, s, 1);
        }
    }
    if (s == end) {
        wrong(r, "the quote is not closed: a value that begins with \" must end with \"");
        return NULL;
    }
    add(&r->feed, s, 1);
    return s + 1;
}

static int hex_digit(char c)
{
    return c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
}

/* Undoes the quotes in place                                                   */
static void unquote(char *s)
{
    char *to = s;
    if (*s != '"') return;
    for (s++; *s && *s != '"'; s++) {
        if (*s != '\\') *to++ = *s;
        else if (*++s == 'x') *to++ = (char)(hex_digit(s[1]) << 4 | hex_digit(s[2])), s += 2;
        else *to++ = *s == 'n' ? '\n' : *s == 't' ? '\t' : *s;
    }
    *to = 0;
}

char *ini_quote(const char *s)
{
    size_t n = strlen(s);
    struct text t = { 0 };
    bool bare = (!n || (!blank(s[0]) && !blank(s[n - 1]) && s[0] != '"'))
              && utf8_valid(s, n) && n < INI_LINE_MAX / 2;
    for (size_t i = 0; i < n && bare; i++)
        bare = (unsigned char)s[i] >= 32 && s[i] != 127 && s[i] != ';' && s[i] != '#';
    if (bare) return xstrdup(s);
    bool ascii = !utf8_valid(s, n);
    add(&t, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        char hex[5];
        snprintf(hex, sizeof hex, "\\x%02x", c);
        if (c == '\\' || c == '"') add(&t, "\\", 1), add(&t, s + i, 1);
        else if (c == '\n') add(&t, "\\n", 2);
        else if (c == '\t') add(&t, "\\t", 2);
        else if (c < 32 || c == 127 || (c > 127 && ascii)) add(&t, hex, 4);
        else add(&t, s + i, 1);
    }
    add(&t, "\"", 1);
    return t.s;
}

/* ---- lines ------------------------------------------------------------------ */

/* A finished key leaves as one event                                           */
static void flush(struct reader *r)
{
    if (r->key_line && !r->bad) {
        unquote(r->value.s);
        r->ev->pair(r->ev->to, r->section, r->key, r->value.s, r->key_line);
    }
    r->key_line = 0;
    r->value.n = 0;
    add(&r->value, "", 0);
}

/* Puts a value, without its comment, into the feed                             */
static bool feed_value(struct reader *r, const char *s, const char *end)
{
    while (s < end && blank(*s)) s++;
    if (s < end && *s == '"' && r->first) {
        if (!(s = feed_quoted(r, s, end))) return false;
        while (s < end && blank(*s)) s++;
        if (s == end || *s == ';') return true;
        wrong(r, "text after the closing quote: write \\\" for a quote within quotes");
        return false;
    }
    const char *stop = s;
    for (; stop < end && !(*stop == ';' && blank(stop[-1])); stop++)
        if (*stop == '#' && blank(stop[-1])) {
            wrong(r, "a comment after a value begins with ';' (or put the value in quotes)");
            return false;
        }
    while (stop > s && blank(stop[-1])) stop--;
    add(&r->feed, s, (size_t)(stop - s));
    return true;
}

static void section_line(struct reader *r, const char *s, const char *end)
{
    const char *name = ++s;
    flush(r);
    while (s < end && ini_name_char(*s)) s++;
    const char *after = s + (s < end);
    while (after < end && blank(*after)) after++;
    size_t n = (size_t)(s - name);
    r->dead = true;                     /* keys below a bad header are not judged */
    if (!n || s == end || *s != ']')
        wrong(r, "a section is [name], of letters, digits and . _ - * ?");
    else if (after < end && *after != ';' && *after != '#')
        wrong(r, "text after a section's ]");
    else if (n > INI_NAME_MAX)
        wrong(r, "the section's name has %zu characters: at most %d are allowed", n, INI_NAME_MAX);
    else {
        memcpy(r->section, name, n);
        r->section[n] = 0;
        r->dead = false;
        r->ev->section(r->ev->to, r->section, r->line);
        add(&r->feed, "[", 1);
        add(&r->feed, name, n);
        add(&r->feed, "]", 1);
    }
}

static void key_line(struct reader *r, const char *s, const char *name_end, const char *value,
                     const char *end)
{
    size_t n = (size_t)(name_end - s);
    flush(r);
    if (n > INI_NAME_MAX) {
        wrong(r, "the key's name has %zu characters: at most %d are allowed", n, INI_NAME_MAX);
    } else {
        memcpy(r->key, s, n);
        r->key[n] = 0;
    }
    r->key_line = r->line;
    r->first = true;
    r->bad = n > INI_NAME_MAX || !feed_value(r, value, end) || r->dead;
    if (r->bad) r->feed.n = 0;
}

/* Decides what a raw line is.  Leaves in feed what libinih is to see.           */
static void take_line(struct reader *r, const char *line, const char *end)
{
    const char *s = line, *name, *eq;
    while (s < end && blank(*s)) s++;
    if (s == end || *s == ';' || *s == '#') return;
    if (*s == '[') {
        section_line(r, s, end);
        return;
    }
    for (name = s; name < end && ini_name_char(*name); name++) {}
    for (eq = name; eq < end && blank(*eq); eq++) {}
    if (name > s && eq < end && (*eq == '=' || *eq == ':')) {
        key_line(r, s, name, eq + 1, end);
    } else if (s > line && r->key_line) {
        r->first = false;
        if (r->bad) return;
        if (r->value.n && r->value.s[0] == '"') wrong(r, "a quoted value cannot go on in a second line");
        else {
            if (r->value.n) add(&r->feed, " ", 1);
            if (feed_value(r, s, end)) return;
        }
        r->feed.n = 0;
        r->bad = true;
    } else {
        char *text = xcalloc((size_t)(end - s) + 1, 1);
        memcpy(text, s, (size_t)(end - s));
        char *t = shown(text);
        flush(r);
        wrong(r, "'%s' is neither [section] nor key = value", t);
        free(t);
        free(text);
    }
}

/* Takes raw lines until one leaves something for libinih; false at the end      */
static bool next_line(struct reader *r)
{
    r->feed.n = r->fed = 0;
    while (r->at < r->end) {
        const char *line = r->at, *nl = memchr(line, '\n', (size_t)(r->end - line));
        const char *end = nl ? nl : r->end;
        r->at = nl ? nl + 1 : r->end;
        r->line++;
        if (end > line && end[-1] == '\r') end--;
        if (end - line > INI_LINE_MAX)
            wrong(r, "the line has %td bytes: at most %d are allowed", end - line, INI_LINE_MAX), flush(r);
        else if (bytes_ok(r, line, (size_t)(end - line)))
            take_line(r, line, end);
        else
            flush(r);
        if (r->feed.n || (r->key_line == r->line && r->first && !r->bad)) return true;
    }
    return false;
}

/* libinih's fgets: at most num - 1 bytes, one line                             */
static char *read_piece(char *str, int num, void *stream)
{
    struct reader *r = stream;
    bool fresh = r->fed >= r->feed.n;
    if (fresh && !next_line(r)) return NULL;
    if (r->feed.n && r->feed.s[0] == '[' && r->key_line == 0) {
        snprintf(str, (size_t)num, "%s\n", r->feed.s);
        r->fed = r->feed.n;
        return str;
    }
    int room = num - INI_NAME_MAX - 12;
    int n = (int)min_i64(room, (int64_t)(r->feed.n - r->fed));
    const char *piece = r->feed.n ? r->feed.s + r->fed : "";
    if (r->first) snprintf(str, (size_t)num, "%s = |%.*s|\n", r->key, n, piece);
    else          snprintf(str, (size_t)num, " |%.*s|\n", n, piece);
    r->first = false;
    r->fed += (size_t)n;
    return str;
}

static int take_piece(void *user, const char *section, const char *key, const char *value)
{
    struct reader *r = user;
    size_t n = strlen(value);
    if (n < 2 || value[0] != '|' || value[n - 1] != '|' || strcmp(key, r->key)
        || strcmp(section, r->section)) {
        wrong(r, "libinih read '%.60s = %.60s' where %s.%s stands", key, value, r->section, r->key);
        r->bad = true;
        return 0;
    }
    add(&r->value, value + 1, n - 2);
    return 1;
}

void ini_read(const char *text, size_t n, const struct ini_events *ev)
{
    struct reader r = { .at = text, .end = text + n, .ev = ev };
    if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) r.at += 3;
    add(&r.value, "", 0);
    if (ini_parse_stream(read_piece, &r, take_piece, &r))
        wrong(&r, "libinih did not understand the file");
    flush(&r);
    free(r.value.s);
    free(r.feed.s);
}
