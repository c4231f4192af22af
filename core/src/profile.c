/* profile.c - see profile.h.                                                            */
#include "profile.h"

#include <stdlib.h>
#include <time.h>

#include "core.h"
#include "json.h"

enum { DEPTH = 32, SPANS = 1 << 20 };   /* more spans are counted in none: 80 MB of them  */

bool profile_on, profile_products;
static struct profile_span *all;
static int64_t n_span, room, origin;
static int64_t open_span[DEPTH];        /* index, or -1: not recorded                    */
static int depth;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void profile_begin(const char *name, const char *component, const char *op)
{
    if (depth == DEPTH) return;
    if (n_span == SPANS) {
        open_span[depth++] = -1;
        return;
    }
    if (n_span == room) {
        room = room ? 2 * room : 1024;
        all = xrealloc(all, (size_t)room * sizeof *all);
    }
    all[n_span] = (struct profile_span){ .name = name, .component = component, .op = op,
                                         .begin = now_ns() - origin };
    open_span[depth++] = n_span++;
}

void profile_end(void)
{
    if (!depth) return;
    int64_t i = open_span[--depth], over = depth ? open_span[depth - 1] : -1;
    if (i < 0) return;
    all[i].end = now_ns() - origin;
    if (over >= 0) all[over].inner += all[i].end - all[i].begin;
}

void profile_add(double bytes, double flops)
{
    int64_t i = depth ? open_span[depth - 1] : -1;
    if (i < 0) return;
    all[i].bytes += bytes;
    all[i].flops += flops;
}

void profile_start(void)
{
    n_span = depth = 0;
    if (!origin) origin = now_ns();
    profile_on = true;
}

void profile_stop(void)
{
    while (depth) profile_end();
    profile_on = false;
}

int64_t profile_spans(const struct profile_span **spans)
{
    *spans = all;
    return n_span;
}

void profile_drop(void)
{
    free(all);
    all = NULL;
    n_span = room = 0;
}

/* ---- the trace ------------------------------------------------------------------------ */

/* The name of a thread or of the process                                                   */
static void put_name(FILE *f, const char *what, int track, const char *name)
{
    fprintf(f, "{\"name\":\"%s\",\"ph\":\"M\",\"pid\":1,\"tid\":%d,\"args\":{\"name\":", what, track);
    json_quote(f, name);
    fputs("}}", f);
}

/* Nanoseconds as microseconds with three places, so that sums stay exact                   */
static void put_us(FILE *f, const char *key, int64_t ns)
{
    fprintf(f, ",\"%s\":%lld.%03lld", key, (long long)(ns / 1000), (long long)(ns % 1000));
}

void profile_write_begin(FILE *f)
{
    fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n", f);
    put_name(f, "process_name", 0, "chimera bench --profile");
}

void profile_write(FILE *f, int track, const char *name)
{
    fputs(",\n", f);
    put_name(f, "thread_name", track, name);
    for (int64_t i = 0; i < n_span; i++) {
        const struct profile_span *s = &all[i];
        char *title = xprintf("%s %s", s->name, s->op);
        fputs(",\n{\"name\":", f);
        json_quote(f, title);
        fputs(",\"cat\":", f);
        json_quote(f, s->component);
        fprintf(f, ",\"ph\":\"X\",\"pid\":1,\"tid\":%d", track);
        put_us(f, "ts", s->begin);
        put_us(f, "dur", s->end - s->begin);
        fprintf(f, ",\"args\":{\"bytes\":%.0f,\"flops\":%.0f}}", s->bytes, s->flops);
        free(title);
    }
}

void profile_write_end(FILE *f)
{
    fputs("\n]}\n", f);
}
