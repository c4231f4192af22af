/* sweep_leave.c - leave one component out: for each word of leave_out one arm, and one with all.
 *
 *   X          a letter of layer_pattern or ffn_pattern: taken out of the pattern
 *   X>Y        Y stands in its places
 *   loop       the layers run once
 *   ternary    f32 weights instead; ternary>int8: those
 *   hgf        without this adapter, or with another in its place
 *   extra_rmsnorm   no norm before the matrices
 *   section.key, section.key>VALUE   any other switch: no, or VALUE                  */
#include "core.h"
#include "sweep.h"

#include <stdlib.h>
#include <string.h>

/* The pattern without the word x, or with y for it; NULL: x is not in it. Caller frees */
static char *without(const char *pattern, const char *x, const char *y)
{
    int64_t n;
    bool found = false;
    char **word = sweep_split(pattern, " ,", &n), *text = xstrdup("");
    for (int64_t i = 0; i < n; i++) {
        bool hit = !strcmp(word[i], x);
        const char *w = hit ? y : word[i];
        found |= hit;
        if (!w || !*w) continue;
        char *t = xprintf("%s%s%s", text, *text ? " " : "", w);
        free(text);
        text = t;
    }
    sweep_split_free(word, n);
    if (found) return text;
    free(text);
    return NULL;
}

static bool leave_letter(struct sweep_axes *a, struct sweep_choice *c, const char *x, const char *y)
{
    static const char *const key[] = { "layer_pattern", "ffn_pattern" };
    bool found = false;
    for (int i = 0; i < 2; i++) {
        const char *pattern = config_get(a->config, "model", key[i]);
        char *text = pattern ? without(pattern, x, y) : NULL;
        if (!text) continue;
        found = true;
        if (!*text)
            config_error(a->config, "sweep", "leave_out", "nothing is left of model.%s without %s: name"
                         " a stand-in, %s>OTHER",
                         key[i], x, x);
        sweep_set_add(a, c, xprintf("model.%s", key[i]), text, "leave_out");
    }
    return found;
}

/* In every [linear...] that sets the quantizer to ternary; its other keys may be the
 * quantizer's own, so all but extra_rmsnorm and adapter go                                      */
static bool leave_quantizer(struct sweep_axes *a, struct sweep_choice *c, const char *x, const char *y)
{
    const char *section, *key, *value;
    bool found = false;
    for (int64_t i = 0; (section = config_section(a->config, "linear", i)); i++) {
        const char *q = config_get(a->config, section, "quantizer");
        if (!q || strcmp(q, x)) continue;
        found = true;
        for (int64_t k = 0; (key = config_key(a->config, section, k, &value)); k++)
            if (strcmp(key, "extra_rmsnorm") && strcmp(key, "quantizer") && strcmp(key, "adapter"))
                sweep_set_add(a, c, xprintf("%s.%s", section, key), NULL, "leave_out");
        sweep_set_add(a, c, xprintf("%s.quantizer", section), xstrdup(y ? y : "f32"), "leave_out");
    }
    return found;
}

/* Out of every [linear...] that has it                                                 */
static bool leave_adapter(struct sweep_axes *a, struct sweep_choice *c, const char *x, const char *y)
{
    const char *section;
    bool found = false;
    for (int64_t i = 0; (section = config_section(a->config, "linear", i)); i++) {
        const char *list = config_get(a->config, section, "adapter");
        char *text = list ? without(list, x, y) : NULL;
        if (!text) continue;
        found = true;
        sweep_set_add(a, c, xprintf("%s.adapter", section), text, "leave_out");
    }
    return found;
}

static bool leave_norm(struct sweep_axes *a, struct sweep_choice *c)
{
    const char *section;
    bool found = false;
    for (int64_t i = 0; (section = config_section(a->config, "linear", i)); i++) {
        const char *on = config_get(a->config, section, "extra_rmsnorm");
        if (!on || !strcmp(on, "no")) continue;
        found = true;
        sweep_set_add(a, c, xprintf("%s.extra_rmsnorm", section), xstrdup("no"), "leave_out");
    }
    return found;
}

static bool leave_loop(struct sweep_axes *a, struct sweep_choice *c)
{
    const char *use = config_get(a->config, "loop", "use");
    if (!use || !*use) return false;
    return sweep_set_add(a, c, xstrdup("loop.use"), xstrdup(""), "leave_out");
}

static void leave_one(struct sweep_axes *a, struct sweep_choice *c, char *word)
{
    char *y = strchr(word, '>');
    c->label[0] = y ? xprintf("%.*s by %s", (int)(y - word), word, y + 1) : xprintf("no %s", word);
    if (y) *y++ = 0;
    if (leave_letter(a, c, word, y)) return;
    if (strchr(word, '.')) {
        sweep_set_add(a, c, xstrdup(word), xstrdup(y ? y : "no"), "leave_out");
        return;
    }
    bool found = !strcmp(word, "loop") ? leave_loop(a, c)
               : !strcmp(word, "extra_rmsnorm") ? leave_norm(a, c)
               : leave_adapter(a, c, word, y) || leave_quantizer(a, c, word, y);
    if (!found)
        config_error(a->config, "sweep", "leave_out", "there is no %s to leave out: wanted is a word of"
                     " a pattern, loop,"
                     " extra_rmsnorm, a quantizer or an adapter of [linear], or section.key", word);
}

void sweep_leave_out(struct sweep_axes *a)
{
    int64_t n, c = 0, words = 0;
    char **word = sweep_split(a->o.leave_out, " ,", &n);
    for (int64_t i = 0; i < n; i++) words += *word[i] != 0;
    struct sweep_axis *x = sweep_axis_add(a, 1, words + 1);
    x->column[0] = xstrdup("arm");
    x->choice[c++].label[0] = xstrdup("all");
    for (int64_t i = 0; i < n; i++)
        if (*word[i]) leave_one(a, &x->choice[c++], word[i]);
    sweep_split_free(word, n);
}
