/* test_config_print.c - the round trip of what is printed, hashes, what a key says of itself.  */
#include "config_fill.h"

static char *printed(const struct config *c, bool origins)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    config_print(c, f, origins);
    fclose(f);
    return text;
}

static void round_trip(const char *lines)
{
    struct config *a, *b;
    struct gd g, h;
    char *ini = xprintf("[layer.GD]\nuse = gated\n%s\n", lines);
    cr_assert_eq(fill(&a, &g, ini), CHI_OK, "%s", fail_text());
    for (int origins = 0; origins < 2; origins++) {
        char *text = printed(a, origins), *again;
        cr_assert_eq(config_load_text(&b, "/elsewhere/y.ini", text, NULL, 0), CHI_OK);
        config_parse(b, "layer.GD", table, &h, use);
        cr_assert_eq(config_finish(b), CHI_OK, "%s\n%s", fail_text(), text);
        cr_expect_eq(config_hash(a), config_hash(b), "%s", text);
        cr_expect_str_eq(g.note, h.note);
        cr_expect_str_eq(g.path, h.path);
        cr_expect_eq(g.scale, h.scale);
        again = printed(b, false);
        if (!origins) cr_expect_str_eq(text, again);
        config_free(b);
        free(text);
        free(again);
    }
    config_free(a);
    free(ini);
}

Test(config_print, what_is_printed_reads_back_with_the_same_hash)
{
    static const char *const lines[] = {
        "", "num_heads = 7\nchunk = 3M\nscale = 0.30000000000000004\nbias = on\nkey_norm = none",
        "note = \" ; \\\"x\\\" \\\\ # \\n\\t \\x01\\x7f \"", "note = \\n \"quoted\" = [x]: y", "note = äöü ∑",
        "note = \";\"", "note = \"#\"", "path = ../some dir/./file.txt", "sizes = 1-500, 0.1, 7, 9, 11-12",
        "sizes =", "scale = -1e-300", "note = \"\\xff\"", "path = \"a;b # c\"", "note =\n  a\n  b" };
    for (int i = 0; i < COUNT(lines); i++)
        round_trip(lines[i]);
    char *line = xcalloc(40000, 1);
    strcpy(line, "note = ");
    memset(line + 7, 'x', 30000);
    round_trip(line);
    free(line);
}

Test(config_print, random_strings_survive_printing)
{
    uint32_t x = 1;
    for (int i = 0; i < 1500; i++) {
        char v[64], *word, *words[1];
        int n = i % 60;
        for (int j = 0; j < n; j++) {
            x = x * 1664525u + 1013904223u;
            v[j] = i & 1 ? " ;#\"\\=|[]xn\t\n:,'"[x >> 28] : (char)((x >> 24) % 127 + 1);
        }
        v[n] = 0;
        struct config *a, *b;
        struct gd g, h;
        words[0] = word = xprintf("layer.GD.note=%s", v);
        cr_assert_eq(fill_with(&a, &g, "", words, 1), CHI_OK, "%s", fail_text());
        cr_assert_str_eq(g.note, v);
        char *text = printed(a, i & 2);
        cr_assert_eq(fill(&b, &h, text), CHI_OK, "%s\n%s", fail_text(), text);
        cr_assert_str_eq(h.note, v);
        cr_assert_eq(config_hash(a), config_hash(b));
        config_free(a);
        config_free(b);
        free(text);
        free(word);
    }
}

Test(config_print, the_hash_is_of_values_not_of_their_places)
{
    struct config *a, *b, *d;
    struct gd g, h, i;
    cr_assert_eq(fill(&a, &g, "[layer.GD]\nnum_heads = 8\nscale = 0.5\n"), CHI_OK);
    cr_assert_eq(fill(&b, &h, "; x\n[layer.GD]\n\nscale = 5e-1\nnum_heads=+8 ; y\nchunk = 4k\n"), CHI_OK);
    cr_assert_eq(fill(&d, &i, "[layer.GD]\nnum_heads = 9\nscale = 0.5\n"), CHI_OK);
    cr_expect_eq(config_hash(a), config_hash(b));
    cr_expect_neq(config_hash(a), config_hash(d));
    char *shape = config_shape_text(a);
    cr_expect_str_eq(shape, "layer.GD.num_heads = 8\nlayer.GD.bias = no\n");
    config_free(a);
    config_free(b);
    config_free(d);
    free(shape);
}

Test(config_print, printing_needs_no_struct)
{
    struct config *c;
    struct gd *g = xcalloc(1, sizeof *g);
    cr_assert_eq(config_load_text(&c, "x.ini", "[layer.GD]\nnum_heads = 9\n[mine]\na = 1 \nb = x  y\n", NULL, 0),
                 CHI_OK);
    config_parse(c, "layer.GD", table, g, NULL);
    config_ignore(c, "mine");
    config_ignore(c, "absent");
    cr_assert_eq(config_finish(c), CHI_OK, "%s", fail_text());
    memset(g, 0xff, sizeof *g);
    free(g);
    char *text = printed(c, false);
    cr_expect(strstr(text, "num_heads = 9\n") && strstr(text, "\n[mine]\na = 1\nb = x  y\n"), "%s", text);
    cr_expect_null(strstr(text, "absent"));
    config_free(c);
    free(text);
}

Test(config_print, a_key_explains_itself)
{
    struct config *c;
    struct gd g = good(&c, "num_heads = 3");
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    cr_expect_eq(config_explain(c, "layer.GD.num_heads", f), CHI_OK);
    cr_expect_eq(config_explain(c, "layer.GD.num_head", f), CHI_ECONF);
    cr_expect(strstr(fail_text(), "did you mean num_heads?"));
    cr_expect_eq(config_explain(c, "layer.DG.num_heads", f), CHI_ECONF);
    cr_expect(strstr(fail_text(), "did you mean layer.GD?"), "%s", fail_text());
    cr_expect_eq(config_explain(c, "nonsense", f), CHI_ECONF);
    fclose(f);
    cr_expect(strstr(text, "int") && strstr(text, "1..256") && strstr(text, "default 40")
              && strstr(text, "number of heads") && strstr(text, "[shape]") && strstr(text, "conf/x.ini:2"), "%s",
              text);
    cr_expect_eq(g.num_heads, 3);
    config_free(c);
    free(text);
}

Test(config_print, callers_add_errors_at_a_key)
{
    struct config *c;
    struct gd g = good(&c, "num_heads = 3\nnote = x");
    config_error(c, "layer.GD", "num_heads", "does not divide %d", 10);
    config_error(c, "layer.GD", "chunk", "too much");
    config_error(c, "gone", NULL, "is missing");
    cr_expect_eq(config_errors(c), 3);
    cr_expect_eq(config_finish(c), CHI_ECONF);
    cr_expect(strstr(fail_text(), "conf/x.ini:2: layer.GD.num_heads = 3: does not divide 10"), "%s", fail_text());
    cr_expect(strstr(fail_text(), "conf/x.ini:1: [layer.GD] chunk: too much"), "%s", fail_text());
    cr_expect(strstr(fail_text(), "[gone]: is missing"), "%s", fail_text());
    cr_expect_eq(g.num_heads, 3);
    config_free(c);
}
