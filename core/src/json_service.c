/* json_service.c - the service "chimera.json/1" (data.h): what json.h accepts, as values in
 * the instance's own memory.  A tree is one block, its values before its texts, because a
 * task may have a hundred thousand lines.                                            */
#include <string.h>

#include "core.h"
#include "files.h"
#include "hosting.h"
#include "json.h"

enum { DEPTH = 32 };

struct room { struct chi_json_value *value; char *text; };      /* what is still free     */

static void measure(const cJSON *j, int64_t *values, int64_t *bytes)
{
    for (; j; j = j->next) {
        ++*values;
        if (j->string) *bytes += (int64_t)strlen(j->string) + 1;
        if (cJSON_IsString(j)) *bytes += (int64_t)strlen(j->valuestring) + 1;
        measure(j->child, values, bytes);
    }
}

static const char *keep(struct room *r, const char *text)
{
    size_t n = strlen(text) + 1;
    char *to = memcpy(r->text, text, n);
    r->text += n;
    return to;
}

static int32_t type_of(const cJSON *j)
{
    return cJSON_IsObject(j) ? CHI_JSON_OBJECT : cJSON_IsArray(j) ? CHI_JSON_LIST
         : cJSON_IsString(j) ? CHI_JSON_TEXT : cJSON_IsNumber(j) ? CHI_JSON_NUMBER
         : cJSON_IsBool(j) ? CHI_JSON_BOOL : CHI_JSON_NULL;
}

static void copy(struct room *r, const cJSON *j, struct chi_json_value *v)
{
    const cJSON *c;
    *v = (struct chi_json_value){ .type = type_of(j), .number = cJSON_IsTrue(j) };
    if (j->string) v->key = keep(r, j->string);
    if (v->type == CHI_JSON_NUMBER) v->number = j->valuedouble;
    if (v->type == CHI_JSON_TEXT) {
        v->text = keep(r, j->valuestring);
        v->n = (int64_t)strlen(v->text);
    }
    struct chi_json_value *item = r->value;
    for (c = j->child; c; c = c->next) v->n++;
    if (j->child) v->item = item;
    r->value += j->child ? v->n : 0;
    for (c = j->child; c; c = c->next) copy(r, c, item++);
}

static chi_status parse(const struct chi_host *h, const char *name, const char *text, int64_t n,
                        const struct chi_json_value **out)
{
    cJSON *j;
    int64_t values = 0, bytes = 0;
    *out = NULL;
    chi_status s = json_parse(name, text, n, DEPTH, &j);
    if (s != CHI_OK) return h->fail(h, s, "%s", fail_text());
    measure(j, &values, &bytes);
    struct room r = { .value = h->alloc(h, (size_t)values * sizeof *r.value + (size_t)bytes) };
    if (r.value) {
        struct chi_json_value *top = r.value++;
        r.text = (char *)(top + values);
        copy(&r, j, top);
        *out = top;
    }
    cJSON_Delete(j);
    return *out ? CHI_OK : CHI_ENOMEM;
}

const struct chi_json json_service = { sizeof json_service, parse };

void services_register(void)
{
    host_register_service("chimera.files/1", &files_service);
    host_register_service("chimera.json/1", &json_service);
}
