/* text_out.c - stop strings and whole characters; see text_out.h.
 *
 * Stop strings: one Knuth-Morris-Pratt automaton each.  After every byte, matched is
 * the length of the longest prefix of the stop string that the input ends in; the
 * largest of these numbers is what has to wait.  When several strings end at the same
 * byte, the longest one is cut off.  Behind that runs a UTF-8 decoder with one state:
 * the bytes of the character so far.                                             */
#include "text_out.h"

#include "core.h"

#include <stdlib.h>
#include <string.h>

static void find_borders(struct stop_string *s)
{
    s->border[0] = 0;
    for (int32_t i = 1, k = 0; i < s->n; i++) {
        while (k > 0 && s->text[i] != s->text[k]) k = s->border[k - 1];
        if (s->text[i] == s->text[k]) k++;
        s->border[i] = k;
    }
}

chi_status text_out_open(struct text_out *t, const char *const *stop, int64_t n_stop,
                         text_sink *sink, void *ctx)
{
    *t = (struct text_out){ .sink = sink, .ctx = ctx };
    for (int64_t i = 0; i < n_stop; i++)
        if (!stop[i][0] || strlen(stop[i]) > STOP_MAX)
            return fail(CHI_ECONF, "a stop string has %zu bytes, it must have 1..%d",
                        strlen(stop[i]), STOP_MAX);
    t->stop = xcalloc((size_t)n_stop, sizeof *t->stop);
    t->n_stop = n_stop;
    for (int64_t i = 0; i < n_stop; i++) {
        t->stop[i].text = (const unsigned char *)stop[i];
        t->stop[i].n = (int32_t)strlen(stop[i]);
        find_borders(&t->stop[i]);
    }
    return CHI_OK;
}

void text_out_close(struct text_out *t)
{
    free(t->stop);
    *t = (struct text_out){ 0 };
}

/* ---- characters -------------------------------------------------------------- */

static chi_status replace(struct text_out *t)
{
    t->n_part = 0;
    return t->sink(t->ctx, "\xef\xbf\xbd", 3);
}

/* Length of the character that begins with b; 0: none does                       */
static int32_t char_bytes(unsigned char b)
{
    return b < 0x80 ? 1 : b >= 0xc2 && b <= 0xdf ? 2 : (b & 0xf0) == 0xe0 ? 3
         : b >= 0xf0 && b <= 0xf4 ? 4 : 0;
}

/* May b follow part[0..n_part-1]?  The second byte has a narrower range after E0 and
 * F0 (overlong), ED (surrogates) and F4 (beyond U+10FFFF).                       */
static bool may_follow(const struct text_out *t, unsigned char b)
{
    unsigned char lo = 0x80, hi = 0xbf;
    if (t->n_part == 1) {
        if (t->part[0] == 0xe0) lo = 0xa0;
        if (t->part[0] == 0xed) hi = 0x9f;
        if (t->part[0] == 0xf0) lo = 0x90;
        if (t->part[0] == 0xf4) hi = 0x8f;
    }
    return b >= lo && b <= hi;
}

static chi_status put_byte(struct text_out *t, unsigned char b)
{
    if (t->n_part && !may_follow(t, b)) TRY(replace(t));
    if (!t->n_part) {
        t->need = char_bytes(b);
        if (!t->need) return replace(t);
    }
    t->part[t->n_part++] = b;
    if (t->n_part < t->need) return CHI_OK;
    t->n_part = 0;
    return t->sink(t->ctx, (const char *)t->part, t->need);
}

/* ---- stop strings ------------------------------------------------------------ */

/* Moves every automaton; *wait: bytes that may become a stop string; returns the
 * length of the longest stop string that ends with b, or 0                       */
static int32_t match(struct text_out *t, unsigned char b, int32_t *wait)
{
    int32_t found = 0;
    *wait = 0;
    for (int64_t i = 0; i < t->n_stop; i++) {
        struct stop_string *s = &t->stop[i];
        while (s->matched > 0 && s->text[s->matched] != b) s->matched = s->border[s->matched - 1];
        if (s->text[s->matched] == b) s->matched++;
        if (s->matched == s->n && s->n > found) found = s->n;
        if (s->matched > *wait) *wait = s->matched;
    }
    return found;
}

/* Lets the first n held bytes out                                                */
static chi_status release(struct text_out *t, int32_t n)
{
    for (int32_t i = 0; i < n; i++) TRY(put_byte(t, t->held[i]));
    t->n_held -= n;
    memmove(t->held, t->held + n, (size_t)t->n_held);
    return CHI_OK;
}

chi_status text_out_put(struct text_out *t, const unsigned char *bytes, int64_t n)
{
    for (int64_t i = 0; i < n && !t->stopped; i++) {
        int32_t wait, found = match(t, bytes[i], &wait);
        t->held[t->n_held++] = bytes[i];
        if (found) {
            TRY(release(t, t->n_held - found));
            t->n_held = 0;
            t->stopped = true;
        } else
            TRY(release(t, t->n_held - wait));
    }
    return CHI_OK;
}

chi_status text_out_end(struct text_out *t)
{
    TRY(release(t, t->n_held));
    for (int64_t i = 0; i < t->n_stop; i++) t->stop[i].matched = 0;
    t->stopped = false;
    return t->n_part ? replace(t) : CHI_OK;
}

int64_t text_out_waiting(const struct text_out *t, unsigned char out[TEXT_WAITING])
{
    memcpy(out, t->part, (size_t)t->n_part);
    memcpy(out + t->n_part, t->held, (size_t)t->n_held);
    return t->n_part + t->n_held;
}
