/* test_rig.c - the bench on which `chimera validate` puts layers: cases are drawn by seed and number alone,
 * lie in the ranges of the options, differ, and open; streams and comparisons do what they say.       */
#include "core.h"
#include "layer_checks.h"
#include "inspect_plugin.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DRAWN = 12 };

static struct registry *registry;

static struct trial trial_of(const char *layer, uint64_t seed)
{
    const struct plugin_info *info;
    struct trial t = { .seed = seed, .draw = seed };
    if (!registry) cr_assert_eq(registry_open(&registry, NULL), CHI_OK, "%s", fail_text());
    cr_assert_eq(plugin_find(registry, layer, &info), CHI_OK, "%s", fail_text());
    t.registry = registry;
    t.plugin = info;
    t.component = info->plugin->components[0];
    return t;
}

static bool same_case(const struct layer_case *a, const struct layer_case *b)
{
    return a->d == b->d && !strcmp(a->options, b->options) && !strcmp(a->linear, b->linear);
}

Test(rig, the_same_seed_and_number_give_the_same_case)
{
    for (int64_t i = 0; i < 4; i++) {
        struct trial t = trial_of("gated_deltanet", 5), u = trial_of("gated_deltanet", 5);
        struct layer_case a, b;
        t.draw = 1;
        u.draw = 99;                            /* what was drawn before does not matter            */
        cr_assert(layer_case(&t, i, &a) && layer_case(&u, i, &b));
        cr_assert(same_case(&a, &b), "%s / %s", a.options, b.options);
        cr_assert_eq(t.draw, 1);                /* nor does a case change what is drawn after        */
    }
}

Test(rig, other_numbers_and_seeds_give_other_cases)
{
    struct layer_case c[DRAWN];
    int64_t differ = 0;
    for (int64_t i = 0; i < DRAWN; i++) {
        struct trial t = trial_of("gated_deltanet", (uint64_t)(1 + i / 6));
        cr_assert(layer_case(&t, i % 6, &c[i]), "%s", t.text);
        differ += i > 0 && !same_case(&c[i], &c[i - 1]);
    }
    cr_assert_geq(differ, DRAWN - 2);
}

/* The value of option NAME in a case's text, or NULL: its default                                    */
static const char *value_in(const struct layer_case *c, const char *name)
{
    char key[80];
    snprintf(key, sizeof key, "%s = ", name);
    const char *at = strstr(c->options, key);
    while (at && at > c->options && at[-1] != '\n') at = strstr(at + 1, key);
    return at ? at + strlen(key) : NULL;
}

Test(rig, draws_lie_in_the_ranges_of_the_options)
{
    static const char *const layers[] = { "gated_deltanet", "attention", "swiglu" };
    for (int64_t l = 0; l < COUNT(layers); l++)
        for (int64_t i = 0; i < DRAWN; i++) {
            struct trial t = trial_of(layers[l], 3);
            struct layer_case c;
            cr_assert(layer_case(&t, i, &c), "%s", t.text);
            for (const struct chi_option *o = t.component->options; o->name; o++) {
                const char *text = value_in(&c, o->name);
                if (!text || (o->type != CHI_OPT_INT && o->type != CHI_OPT_FLOAT)) continue;
                double v = strtod(text, NULL);
                cr_assert(v >= o->min && v <= o->max, "%s: %s = %g", layers[l], o->name, v);
            }
            cr_assert(case_works(&t, &c), "%s: %s", layers[l], case_words(&c));
        }
}

Test(rig, words_name_every_option)
{
    struct trial t = trial_of("gated_deltanet", 1);
    struct layer_case c = { .d = 7, .options = "num_heads = 3\nhead_dim = 5\n", .linear = "quantizer = f32\n" };
    cr_assert_str_eq(case_words(&c), "hidden_size 7, quantizer = f32, num_heads 3, head_dim 5");
    cr_assert(case_works(&t, &c));
    strcpy(c.options, "num_heads = -1\n");
    cr_assert(!case_works(&t, &c));
}

Test(rig, weights_are_random_and_by_seed)
{
    struct trial t = trial_of("gated_deltanet", 1);
    struct layer_case c;
    struct rig a, b;
    cr_assert(layer_case(&t, 0, &c) && rig_open(&a, &t, &c, true, 8, 2) && rig_open(&b, &t, &c, true, 8, 2));
    const struct model_tensor *v, *w;
    for (int64_t i = 0; (v = solo_tensor(a.solo, i)) && (w = solo_tensor(b.solo, i)); i++) {
        cr_assert_eq(memcmp(v->w, w->w, (size_t)v->n * sizeof *v->w), 0, "%s", v->name);
        for (int64_t j = 1; j < v->n; j++) cr_assert(v->w[j] != v->w[0], "%s is constant", v->name);
    }
    rig_weights(&b, 77);
    w = solo_tensor(b.solo, 0);
    cr_assert_neq(memcmp(solo_tensor(a.solo, 0)->w, w->w, (size_t)w->n * sizeof *w->w), 0);
    rig_close(&a);
    rig_close(&b);
}

Test(rig, comparisons_see_one_bit_and_say_where)
{
    struct trial t = trial_of("swiglu", 1);
    struct layer_case c;
    struct rig r;
    cr_assert(layer_case(&t, 0, &c) && rig_open(&r, &t, &c, false, 8, 1));
    float *x = rig_random_rows(&r, 3, 1), *y = kept_copy(&r, x, row_bytes(&r, 3));
    cr_assert(rig_same(&r, "copies", x, y, 3, r.d) && t.outcome == TRIAL_OK);
    cr_assert_eq(rig_distance(x, y, 3 * r.d), 0);
    y[r.d + 2] = nextafterf(y[r.d + 2], 9);
    cr_assert(!rig_same(&r, "a bit", x, y, 3, r.d));
    cr_assert_eq(t.outcome, TRIAL_FAILED);
    cr_assert(strstr(t.text, "a bit: row 1, column 2 is "), "%s", t.text);
    y[0] = NAN;
    cr_assert(isnan(rig_distance(y, x, 3 * r.d)));
    x[0] = NAN;
    y[r.d + 2] = x[r.d + 2];
    cr_assert(rig_same(&r, "NaN beside NaN", x, y, 3, r.d));
    rig_close(&r);
    free(t.text);
}

/* A stream's pieces carry its position, and only its first one is fresh                              */
Test(rig, segments_of_a_stream)
{
    struct trial t = trial_of("gated_deltanet", 1);
    struct layer_case c;
    struct rig r;
    cr_assert(layer_case(&t, 0, &c) && rig_open(&r, &t, &c, false, 8, 1));
    struct stream s = stream_new(&r, 9, 7, 8);
    struct chi_segment head = stream_segment(&s, 0, 3, 0), rest = stream_segment(&s, 3, 8, 5);
    cr_assert(head.fresh && head.pos == 7 && head.rows == 3 && head.stream == 9 && head.state == s.state);
    cr_assert(!rest.fresh && rest.pos == 10 && rest.rows == 5 && rest.first == 5);
    cr_assert(stream_run(&r, &s, 0, 8, FORWARD));
    cr_assert_neq(s.y[0], 0);
    rig_close(&r);
}
