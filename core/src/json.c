/* json.c - strict reading and plain writing of JSON around libcjson; see json.h.  */
#include "json.h"
#include "core.h"

#include <stdlib.h>
#include <string.h>

/* Length of the UTF-8 character at p (n bytes left), 0 if it is none: no overlong
 * forms, no surrogates, nothing above U+10FFFF.                                   */
static int64_t utf8_length(const unsigned char *p, int64_t n)
{
    if (p[0] < 0x80) return 1;
    int64_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n < len) return 0;
    for (int64_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if (p[0] == 0xe0 && p[1] < 0xa0) return 0;
    if (p[0] == 0xed && p[1] > 0x9f) return 0;
    if (p[0] == 0xf0 && p[1] < 0x90) return 0;
    if (p[0] == 0xf4 && p[1] > 0x8f) return 0;
    return len;
}

/* One look over the text before libcjson allocates anything: bytes, depth, and how
 * many values there can be at most.                                               */
static chi_status scan(const char *name, const char *text, int64_t n, int max_depth, int64_t *values)
{
    bool quoted = false;
    int depth = 0;
    *values = 1;
    for (int64_t i = 0, len; i < n; i += len) {
        unsigned char c = (unsigned char)text[i];
        len = utf8_length((const unsigned char *)text + i, n - i);
        if (!len) return fail(CHI_EDATA, "%s: byte %lld of the JSON text is not UTF-8", name, (long long)i);
        if (c < 0x20 && (quoted || (c != '\n' && c != '\t' && c != '\r')))
            return fail(CHI_EDATA, "%s: control character %d at byte %lld of the JSON text", name, c, (long long)i);
        if (quoted && c == '\\') {
            len = 2;
            if (n - i > 5 && !strncmp(text + i, "\\u0000", 6))
                return fail(CHI_EDATA, "%s: \\u0000 at byte %lld of the JSON text", name, (long long)i);
        } else if (c == '"') quoted = !quoted;
        else if (!quoted && (c == '{' || c == '[')) {
            ++*values;
            if (++depth > max_depth)
                return fail(CHI_EDATA, "%s: the JSON text is nested deeper than %d levels", name, max_depth);
        } else if (!quoted && (c == '}' || c == ']')) depth--;
        else if (!quoted && c == ',') ++*values;
    }
    return CHI_OK;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static chi_status no_key_twice(const char *name, const cJSON *object)
{
    int64_t n = 0;
    const cJSON *c;
    for (c = object->child; c; c = c->next) n++;
    if (n > 1 && cJSON_IsObject(object)) {
        const char **key = xcalloc((size_t)n, sizeof *key), *twice = NULL;
        n = 0;
        for (c = object->child; c; c = c->next) key[n++] = c->string;
        qsort(key, (size_t)n, sizeof *key, by_key);
        for (int64_t i = 1; i < n && !twice; i++)
            if (!strcmp(key[i - 1], key[i])) twice = key[i];
        free(key);
        if (twice) return fail(CHI_EDATA, "%s: \"%s\" is there twice in one JSON object", name, twice);
    }
    for (c = object->child; c; c = c->next)
        if (c->child) TRY(no_key_twice(name, c));
    return CHI_OK;
}

chi_status json_parse(const char *name, const char *text, int64_t n, int max_depth, cJSON **out)
{
    const char *end = NULL;
    int64_t values;
    *out = NULL;
    TRY(scan(name, text, n, max_depth, &values));
    int64_t need = values * (int64_t)(sizeof(cJSON) + 32) + n;
    if (need > 1 << 20) TRY(mem_check(need, name));     /* a look at the machine costs more than a line */
    cJSON *j = cJSON_ParseWithLengthOpts(text, (size_t)n, &end, false);
    if (!j)
        return fail(CHI_EDATA, "%s: the text is no JSON near byte %lld", name,
                    end ? (long long)(end - text) : 0LL);
    while (end < text + n && strchr(" \t\r\n", *end)) end++;
    chi_status s = CHI_OK;
    if (end < text + n)
        s = fail(CHI_EDATA, "%s: something follows the JSON text at byte %lld", name, (long long)(end - text));
    if (s == CHI_OK) s = no_key_twice(name, j);
    if (s == CHI_OK) *out = j;
    else cJSON_Delete(j);
    return s;
}

bool json_int(const cJSON *j, int64_t *out)
{
    if (!cJSON_IsNumber(j)) return false;
    double d = j->valuedouble;
    if (!(d >= 0 && d < 9007199254740992.0) || d != (double)(int64_t)d) return false;
    *out = (int64_t)d;
    return true;
}

const char *json_text(const cJSON *j, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, key));
}

void json_quote(FILE *f, const char *text)
{
    putc('"', f);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        if (*p == '"' || *p == '\\') fprintf(f, "\\%c", *p);
        else if (*p < 0x20) fprintf(f, "\\u%04x", *p);
        else putc(*p, f);
    putc('"', f);
}
