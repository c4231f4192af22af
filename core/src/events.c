/* events.c - see events.h.                                                              */
#include "events.h"

#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "json.h"

enum { DEPTH = 4 };
static const char version[] = "brain.Event:2";

/* Castagnoli's polynomial, bits reversed; a line has a few hundred bytes                  */
uint32_t events_crc32c(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    uint32_t c = ~(uint32_t)0;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int b = 0; b < 8; b++) c = c >> 1 ^ (c & 1 ? 0x82f63b78u : 0);
    }
    return ~c;
}

static void put_le(FILE *f, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) putc((int)(v >> 8 * i & 255), f);
}

static void put_varint(FILE *f, uint64_t v)
{
    for (; v >= 128; v >>= 7) putc((int)(v & 127) | 128, f);
    putc((int)v, f);
}

/* A field of bytes: its tag, length and bytes                                             */
static void put_bytes(FILE *f, int field, const void *bytes, size_t n)
{
    put_varint(f, (uint64_t)field << 3 | 2);
    put_varint(f, n);
    fwrite(bytes, 1, n, f);
}

static void put_time(FILE *f, double t)
{
    uint64_t u;
    memcpy(&u, &t, sizeof u);
    put_varint(f, 1 << 3 | 1);
    put_le(f, u, 8);
}

static uint32_t mask(const void *bytes, size_t n)
{
    uint32_t c = events_crc32c(bytes, n);
    return (c >> 15 | c << 17) + 0xa282ead8u;
}

static void put_record(FILE *f, const void *bytes, size_t n)
{
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)n >> 8 * i);
    fwrite(length, 1, 8, f);
    put_le(f, mask(length, 8), 4);
    fwrite(bytes, 1, n, f);
    put_le(f, mask(bytes, n), 4);
}

void events_begin(FILE *f, double base)
{
    char *event = NULL;
    size_t n = 0;
    FILE *e = open_memstream(&event, &n);
    if (!e) return;
    put_time(e, base);
    put_bytes(e, 3, version, strlen(version));
    if (!fclose(e)) put_record(f, event, n);
    free(event);
}

double events_base(const unsigned char *p, int64_t n)
{
    enum { HEADER = 12 };
    double t = 0;
    uint64_t u = 0;
    if (n < HEADER + 9 + 2 + (int64_t)sizeof version - 1 || p[HEADER] != (1 << 3 | 1)
        || memcmp(p + HEADER + 11, version, sizeof version - 1)) return 0;
    for (int i = 0; i < 8; i++) u |= (uint64_t)p[HEADER + 1 + i] << 8 * i;
    memcpy(&t, &u, sizeof t);
    return t > 0 && t < 1e11 ? t : 0;
}

static void put_value(FILE *f, const char *tag, double x)
{
    char *value = NULL;
    size_t n = 0;
    float number = (float)x;
    uint32_t u;
    FILE *v = open_memstream(&value, &n);
    if (!v) return;
    memcpy(&u, &number, sizeof u);
    put_bytes(v, 1, tag, strlen(tag));
    put_varint(v, 2 << 3 | 5);
    put_le(v, u, 4);
    if (!fclose(v)) put_bytes(f, 1, value, n);
    free(value);
}

/* An object, or NULL; what a reader of lines would not know is nothing to stop a run for   */
static cJSON *parse(const char *json, int64_t n)
{
    cJSON *j = NULL;
    if (json_parse("a line of metrics", json, n, DEPTH, &j) != CHI_OK) return NULL;
    if (cJSON_IsObject(j)) return j;
    cJSON_Delete(j);
    return NULL;
}

static double wall_of(const cJSON *j)
{
    const cJSON *w = cJSON_GetObjectItemCaseSensitive(j, "wall_s");
    return cJSON_IsNumber(w) ? w->valuedouble : 0;
}

double events_wall(const char *json, int64_t n)
{
    cJSON *j = parse(json, n);
    double s = j ? wall_of(j) : 0;
    cJSON_Delete(j);
    return s;
}

void events_line(FILE *f, const char *json, int64_t n, double base)
{
    char *summary = NULL, *event = NULL;
    size_t n_summary = 0, n_event = 0;
    int64_t step;
    cJSON *j = parse(json, n);
    FILE *s = NULL, *e = NULL;
    if (j && json_int(cJSON_GetObjectItemCaseSensitive(j, "step"), &step)) s = open_memstream(&summary, &n_summary);
    for (const cJSON *c = s ? j->child : NULL; c; c = c->next)
        if (cJSON_IsNumber(c) && strcmp(c->string, "step")) put_value(s, c->string, c->valuedouble);
    if (s && !fclose(s)) e = open_memstream(&event, &n_event);
    if (e) {
        put_time(e, base + wall_of(j));
        put_varint(e, 2 << 3);
        put_varint(e, (uint64_t)step);
        put_bytes(e, 5, summary, n_summary);
        if (!fclose(e)) put_record(f, event, n_event);
    }
    cJSON_Delete(j);
    free(summary);
    free(event);
}
