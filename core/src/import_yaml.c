/* import_yaml.c - the config.yaml of a checkpoint, as far as it is flat: lines "key: value" with a number, true,
 * false,
 * null or a text, comments, and a "---" at the top (yaml.org/spec/1.2.2, scalars of chapter 7.3 and the core schema).
 * Whatever else YAML has, such as nested maps, lists, blocks, anchors and tags, is refused with its line.         */
#include "import_run.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

static chi_status refuse(const char *path, int line, const char *why)
{
    return fail(CHI_EDATA, "%s:%d: %s: wanted are lines \"key: value\" with a number, true, false, null or a text",
                path, line, why);
}

/* A number in the forms that JSON shares with YAML, "1e-06" and ".5" included, to the end of the text             */
static bool number_of(const char *text, double *v)
{
    char *end;
    if (!*text || text[strspn(text, "+-.0123456789eE")]) return false;      /* no hex, no inf                       */
    *v = strtod(text, &end);
    return !*end;
}

static cJSON *plain(const char *text)
{
    static const char *const word[][3] = {
        { "true", "True", "TRUE" }, { "false", "False", "FALSE" }, { "null", "Null", "NULL" }
    };
    double v;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            if (!strcmp(text, word[i][j])) return i < 2 ? cJSON_CreateBool(!i) : cJSON_CreateNull();
    if (!*text || !strcmp(text, "~")) return cJSON_CreateNull();
    return number_of(text, &v) ? cJSON_CreateNumber(v) : cJSON_CreateString(text);
}

/* Cuts a comment, which a blank precedes, and blanks off the end                                                   */
static void trim(char *text)
{
    size_t n = 0;
    for (char *p = text; *p && n == 0; p++)
        if (*p == '#' && (p == text || isblank((unsigned char)p[-1]))) *p = 0, n = 1;
    for (n = strlen(text); n && isspace((unsigned char)text[n - 1]); n--) text[n - 1] = 0;
}

/* The text between quotes, which hold no others and no escapes                                                     */
static bool unquote(char *text)
{
    char quote = *text, *end = strchr(text + 1, quote);
    if (!end || (quote == '"' && strchr(text, '\\'))) return false;
    *end = 0;
    char *rest = end + 1;
    trim(rest);
    if (*rest) return false;
    memmove(text, text + 1, strlen(text + 1) + 1);
    return true;
}

static chi_status take_line(const char *path, int number, char *line, cJSON *to)
{
    char *colon = line, *value;
    if (isspace((unsigned char)*line) || !strncmp(line, "- ", 2))
        return refuse(path, number, "it is nested, or a list");
    while (isalnum((unsigned char)*colon) || (*colon && strchr("_-.", *colon))) colon++;
    if (colon == line || *colon != ':' || (colon[1] && !isspace((unsigned char)colon[1])))
        return refuse(path, number, "it is no key with a value");
    *colon = 0;
    for (value = colon + 1; isblank((unsigned char)*value); value++) continue;
    bool quoted = *value == '"' || *value == '\'';
    if (quoted && !unquote(value)) return refuse(path, number, "its quotes are of another kind");
    if (!quoted) trim(value);
    if (!quoted && *value && strchr("[{|>&*!%@`,]}?", *value))
        return refuse(path, number, "its value is no plain one");
    if (cJSON_GetObjectItemCaseSensitive(to, line)) return refuse(path, number, "the key stands there twice");
    cJSON *v = quoted ? cJSON_CreateString(value) : plain(value);
    if (v && cJSON_AddItemToObject(to, line, v)) return CHI_OK;
    cJSON_Delete(v);
    return fail(CHI_ENOMEM, "no memory for %s", path);
}

chi_status yaml_flat(const char *path, const char *text, int64_t n, cJSON **out)
{
    char *copy = xprintf("%.*s", (int)n, text), *line = copy, *next;
    chi_status s = (int64_t)strlen(copy) == n ? CHI_OK : fail(CHI_EDATA, "%s: a NUL byte: this is no YAML", path);
    *out = cJSON_CreateObject();
    if (!*out) s = fail(CHI_ENOMEM, "no memory for %s", path);
    for (int number = 1; s == CHI_OK && line; line = next, number++) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        char *end = line + strlen(line);
        if (end > line && end[-1] == '\r') end[-1] = 0;
        size_t blanks = strspn(line, " \t");
        if (!line[blanks] || line[blanks] == '#' || (!strcmp(line, "---") && number == 1)) continue;
        s = take_line(path, number, line, *out);
    }
    free(copy);
    return s;
}
