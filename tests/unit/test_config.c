/* test_config.c - the dialect, option types, precedence, all errors at once, garbage.  */
#include "config_fill.h"

/* ---- values ------------------------------------------------------------------- */

Test(config, defaults_go_through_the_same_parser)
{
    struct config *c;
    struct gd g = good(&c, "");
    cr_expect_eq(g.num_heads, 40);
    cr_expect_eq(g.chunk, 4000);
    cr_expect_eq(g.scale, 0.1);
    cr_expect_eq(g.key_norm, 1);
    cr_expect_str_eq(g.note, "");
    cr_expect_str_eq(g.path, "");
    cr_expect_str_eq(g.gate, "swiglu");
    cr_assert_eq(g.sizes.n, 2);
    cr_expect_eq(g.sizes.v[1], 2);
    config_free(c);
}

Test(config, every_type_reads_its_forms)
{
    struct config *c;
    const struct { const char *text; int64_t want; } ints[] = {
        { "0", 0 }, { "7 ; seven", 7 }, { "+7", 7 }, { "4k", 4000 }, { "2M", 2000000 }, { "3G", 3000000000 },
        { "\t9223372036854775807", INT64_MAX }, { "\"12\"", 12 } };
    for (int i = 0; i < COUNT(ints); i++) {
        char *line = xprintf("chunk = %s", ints[i].text);
        cr_expect_eq(good(&c, line).chunk, ints[i].want, "%s", line);
        config_free(c);
        free(line);
    }
    static const char *const bools[] = { "no", "yes", "false", "true", "off", "on", "0", "1", "No", "YES" };
    for (int i = 0; i < COUNT(bools); i++) {
        char *line = xprintf("bias=%s", bools[i]);
        cr_expect_eq(good(&c, line).bias, i & 1, "%s", line);
        config_free(c);
        free(line);
    }
    cr_expect_eq(good(&c, "scale = -2.5e-1").scale, -0.25);
    cr_expect_eq(good(&c, "scale: .5").scale, 0.5);
    cr_expect_eq(good(&c, "key_norm = rms").key_norm, 2);
    cr_expect_eq(good(&c, "key_norm = none").key_norm, 0);
}

Test(config, lists)
{
    struct config *c;
    struct gd g = good(&c, "sizes = 1, 2,4-8 , 0.5,3-3");
    const double want[] = { 1, 2, 4, 5, 6, 7, 8, 0.5, 3 };
    cr_assert_eq(g.sizes.n, 9);
    for (int i = 0; i < 9; i++) cr_expect_eq(g.sizes.v[i], want[i]);
    cr_expect_eq(good(&c, "sizes =").sizes.n, 0);
    static const char *const bad[] = { "1 2", "1,,2", "1,", ",1", "8-4", "1-", "a", "0-99999999", "1, 2000",
                                       "-1", "0x10", "1.5-3", "0-1000-2", "nan", "1e300", "1-inf" };
    for (int i = 0; i < COUNT(bad); i++) {
        char *line = xprintf("sizes = %s", bad[i]);
        cr_expect(strstr(error_of(line), "conf/x.ini:2: layer.GD.sizes = "), "%s: %s", line, error_of(line));
        free(line);
    }
}

Test(config, wrong_values_name_file_line_and_what_is_legal)
{
    cr_expect_str_eq(error_of("num_heads = 0"),
        "conf/x.ini:2: layer.GD.num_heads = 0: must be 1..256 (number of heads; default 40)");
    cr_expect_str_eq(error_of("num_heads = 2.5"), "conf/x.ini:2: layer.GD.num_heads = 2.5: "
        "must be a whole number, 1..256 (number of heads; default 40)");
    const struct { const char *line, *says; } t[] = {
        { "num_heads = 257", "must be 1..256" }, { "num_heads = 1k", "must be 1..256" },
        { "num_heads =", "a whole number" }, { "num_heads = 4K", "a whole number" },
        { "num_heads = 0x10", "a whole number" }, { "num_heads = 4 4", "a whole number" },
        { "chunk = 9223372036854775808", "a whole number" }, { "chunk = 99999999999999G", "a whole number" },
        { "chunk = -1", "must be at least 0" }, { "scale = nan", "a finite number, -1..1" },
        { "scale = inf", "a finite number" }, { "scale = 1e999", "a finite number" },
        { "scale = 0x1p-2", "a finite number" }, { "scale = 1,5", "a finite number" },
        { "scale = 1.5", "must be -1..1" }, { "scale =", "a finite number" },
        { "bias = maybe", "must be yes or no (adds a bias; default no)" }, { "bias =", "yes or no" },
        { "key_norm = l3", "must be none, l2 or rms (normalisation of keys; default l2): did you mean l2?" },
        { "key_norm = L2", "none, l2 or rms" }, { "key_norm = none|l2", "none, l2 or rms" },
        { "key_norm =", "none, l2 or rms" }, { "note = a # b", "a comment after a value begins with ';'" } };
    for (int i = 0; i < COUNT(t); i++) {
        const char *e = error_of(t[i].line);
        cr_expect(strstr(e, t[i].says) && !strncmp(e, "conf/x.ini:2: ", 14), "%s: %s", t[i].line, e);
        cr_expect_null(strchr(e, '\n'), "%s: one line only: %s", t[i].line, e);
    }
}

Test(config, a_required_key_is_asked_for)
{
    struct r { int64_t n; } r;
    static const struct chi_option need[] = {
        CHI_INT(struct r, n, NULL, 1, 9, "how many", CHI_OPT_REQUIRED), CHI_OPTIONS_END };
    struct config *c;
    cr_assert_eq(config_load_text(&c, "x.ini", "\n[a]\n", NULL, 0), CHI_OK);
    cr_expect_not(config_parse(c, "a", need, &r, NULL));
    cr_expect_eq(config_finish(c), CHI_ECONF);
    cr_expect_str_eq(fail_text(), "x.ini:2: [a] needs n = ... (how many: 1..9)");
    config_free(c);
}

/* ---- every key, in every wrong way ------------------------------------------------ */

Test(config, every_key_misspelt_is_unknown_with_a_suggestion)
{
    for (const struct chi_option *o = table; o->name; o++)
        for (size_t i = 0; i + 1 < strlen(o->name); i++) {
            char *name = xstrdup(o->name), c = name[i];
            name[i] = name[i + 1];
            name[i + 1] = c;
            char *line = xprintf("%s = 1", name), *hint = xprintf("unknown key: did you mean %s? ", o->name);
            if (strcmp(name, o->name)) {
                cr_expect(strstr(error_of(line), hint), "%s: %s", line, error_of(line));
                cr_expect(strstr(error_of(line), "[layer.GD] takes use, num_heads, chunk, scale"));
            }
            free(name);
            free(line);
            free(hint);
        }
}

Test(config, every_key_twice_is_an_error_that_names_both_lines)
{
    for (const struct chi_option *o = table; o->name; o++) {
        char *lines = xprintf("%s = %s\n; between\n%s = %s", o->name, o->fallback, o->name, o->fallback);
        char *want = xprintf("conf/x.ini:4: layer.GD.%s stands in line 2 already: keep one of them", o->name);
        cr_expect_str_eq(error_of(lines), want);
        free(lines);
        free(want);
    }
}

Test(config, every_key_with_10_kB)
{
    char *big = xcalloc(10001, 1);
    memset(big, '7', 10000);
    for (const struct chi_option *o = table; o->name; o++) {
        char *line = xprintf("%s = %s", o->name, big), *key = xprintf("%s%s = 1", o->name, big);
        bool text = o->type == CHI_OPT_STRING || o->type == CHI_OPT_PATH || o->type == CHI_OPT_REF;
        const char *e = error_of(line);
        cr_expect_eq(!*e, text, "%s: %s", o->name, e);
        cr_expect_lt(strlen(e), 300);
        e = error_of(key);
        cr_expect(strstr(e, "conf/x.ini:2: the key's name has 10"), "%s", e);
        free(line);
        free(key);
    }
    free(big);
}

/* ---- the dialect --------------------------------------------------------------------- */

Test(config, long_values_arrive_whole)
{
    struct config *c;
    for (int n = 1; n < 700; n += 1) {
        char *v = xcalloc((size_t)n + 1, 1);
        for (int i = 0; i < n; i++) v[i] = "GD XM= ,"[i * 7 % 8];
        v[0] = v[n - 1] = 'x';
        char *line = xprintf("note = %s ; remark", v);
        cr_assert_str_eq(good(&c, line).note, v, "%d", n);
        config_free(c);
        free(line);
        free(v);
    }
}

Test(config, continuation_lines_are_joined_with_one_blank)
{
    struct config *c;
    struct gd g = good(&c, "note = GD XM ; first\n   TM GD\n\n; remark\n\tSK\nchunk = 1");
    cr_expect_str_eq(g.note, "GD XM TM GD SK");
    cr_expect_eq(g.chunk, 1);
    cr_expect_str_eq(good(&c, "note =\n  a\n  ;b\n  c").note, "a c");
}

Test(config, indented_keys_are_keys)
{
    struct config *c;
    struct gd g = good(&c, "  num_heads = 3\n  chunk = 5\n\tscale = 1");
    cr_expect_eq(g.num_heads, 3);
    cr_expect_eq(g.chunk, 5);
    cr_expect_eq(g.scale, 1);
}

Test(config, quotes_keep_everything)
{
    struct config *c;
    cr_expect_str_eq(good(&c, "note = \" a ; b # \\\"c\\\" \\\\ \\x41\\t\\n \" ; remark").note,
                     " a ; b # \"c\" \\ A\t\n ");
    cr_expect_str_eq(good(&c, "note = \"\"").note, "");
    cr_expect_str_eq(good(&c, "note = it's \"so\"; and so").note, "it's \"so\"; and so");
    static const char *const bad[] = { "\"a", "\"a\\\"", "\"a\\q\"", "\"\\x0\"", "\"\\x00\"", "\"\\xgg\"",
                                       "\"a\" b", "\"a\\", "\"a\"\n b" };
    for (int i = 0; i < COUNT(bad); i++) {
        char *line = xprintf("note = %s", bad[i]);
        cr_expect_neq(*error_of(line), 0, "%s", line);
        free(line);
    }
}

Test(config, windows_line_ends_and_a_byte_order_mark)
{
    struct config *c;
    struct gd g;
    cr_assert_eq(fill(&c, &g, "\xef\xbb\xbf; hi\r\n[layer.GD]\r\nnum_heads = 5\r\nnote = x\r\n  y\r\n"), CHI_OK,
                 "%s", fail_text());
    cr_expect_eq(g.num_heads, 5);
    cr_expect_str_eq(g.note, "x y");
    config_free(c);
}

Test(config, bad_lines_have_their_own_words)
{
    const struct { const char *text, *says; } t[] = {
        { "[layer.GD\n", "x.ini:1: a section is [name]" }, { "[]\n", "x.ini:1: a section is [name]" },
        { "[layer.GD] x\n", "x.ini:1: text after a section's ]" }, { "[a b]\n", "x.ini:1: a section is" },
        { "\n\nhello\n", "x.ini:3: 'hello' is neither [section] nor key = value" },
        { "= 3\n", "x.ini:1: '= 3' is neither" },
        { "num_heads = 3\n", "x.ini:1: num_heads stands before the first [section]" },
        { "inlcude = 3\n", "did you mean include?" },
        { "[layer.GD]\nnote = \x01\n", "x.ini:2: a control character in column 8" },
        { "[layer.GD]\nnote = \xff\n", "x.ini:2: bytes that are no UTF-8" },
        { "[layer.GD]\nnote = \xc0\x80\n", "no UTF-8" }, { "[layer.GD]\nnote = \xed\xa0\x80\n", "no UTF-8" },
        { "[layer.GD]\n[layer.GD]\n", "x.ini:2: [layer.GD] stands in line 1 already" },
        { "[layer.GD]\n[x]\n[layer.GD]\n", "x.ini:3: [layer.GD] stands in line 1 already" },
        { "[layer.GD]\ninclude = y\n", "include stands at the top of a file" } };
    for (int i = 0; i < COUNT(t); i++) {
        struct config *c;
        struct gd g;
        cr_expect_eq(fill(&c, &g, t[i].text), CHI_ECONF, "%s", t[i].text);
        cr_expect(strstr(fail_text(), t[i].says), "%s -> %s", t[i].text, fail_text());
        config_free(c);
    }
}

Test(config, long_names_are_refused_and_49_characters_fit)
{
    for (int n = 40; n < 60; n++) {
        char *name = xcalloc((size_t)n + 1, 1);
        memset(name, 'k', (size_t)n);
        char *ini = xprintf("[%s]\n%s = a\n", name, name);
        struct config *c;
        cr_assert_eq(config_load_text(&c, "x.ini", ini, NULL, 0), CHI_OK);
        const char *v = config_get(c, name, name);
        if (n <= 49) cr_expect_str_eq(v, "a");
        else cr_expect_null(v);
        cr_expect_eq(config_finish(c), n <= 49 ? CHI_OK : CHI_ECONF);
        config_free(c);
        free(name);
        free(ini);
    }
}

/* ---- several sources ------------------------------------------------------------------- */

Test(config, all_errors_come_out_at_once_in_order)
{
    struct config *c;
    struct gd g;
    char one[] = "layer.GD.bais=yes", two[] = "layr.GD.chunk=1", three[] = "layer.GD.scale=9", four[] = "lr=1";
    char *words[] = { one, two, three, four };
    cr_assert_eq(fill_with(&c, &g, "[layer.GD]\nnum_heads = 0\nhello\nchnuk = 5\n[modle]\nx = 1\n[layer.GD]\nbias = "
                           "2\n", words, 4), CHI_ECONF);
    const char *const order[] = {
        "conf/x.ini:2: layer.GD.num_heads = 0: must be 1..256", "\nconf/x.ini:3: 'hello'",
        "\nconf/x.ini:4: layer.GD.chnuk = 5: unknown key: did you mean chunk?",
        "\nconf/x.ini:5: [modle]: unknown section: ", "\nconf/x.ini:7: [layer.GD] stands in line 1",
        "\nconf/x.ini:8: layer.GD.bias = 2: must be yes or no",
        "\ncommand line: layer.GD.scale = 9: must be -1..1", "\ncommand line: 'lr=1' is no override",
        "\ncommand line: layer.GD.bais = yes: unknown key: did you mean bias?",
        "\ncommand line: layr.GD.chunk = ...: unknown section: did you mean [layer.GD]?" };
    const char *at = fail_text();
    for (int i = 0; i < COUNT(order); i++) {
        const char *found = strstr(fail_text(), order[i]);
        cr_expect(found, "%s\nis missing in\n%s", order[i], fail_text());
        cr_expect(i > 5 || found >= at, "%s", order[i]);
        at = found;
    }
    cr_expect_eq(config_errors(c), COUNT(order));
    config_free(c);
}

Test(config, a_file_of_errors_is_cut_with_a_count)
{
    struct config *c;
    char *text = xcalloc(20000, 1);
    for (int i = 0; i < 500; i++) strcat(text, "junk\n");
    cr_assert_eq(config_load_text(&c, "x.ini", text, NULL, 0), CHI_OK);
    cr_expect_eq(config_finish(c), CHI_ECONF);
    cr_expect(strstr(fail_text(), "x.ini:50: ") && !strstr(fail_text(), "x.ini:51: "));
    cr_expect(strstr(fail_text(), "\n... and 450 more"));
    config_free(c);
    free(text);
}

Test(config, default_then_include_then_file_then_command_line, .init = enter, .fini = leave)
{
    struct config *c;
    struct gd g;
    char word[] = "layer.GD.num_heads=8", path[] = "layer.GD.path=p.txt";
    char *words[] = { word, path };
    cr_assert_eq(system("mkdir -p conf/sub"), 0);
    put("conf/sub/base.ini", "[layer.GD]\nnum_heads = 2\nchunk = 2\nscale = 0.5\npath = base.txt\n");
    put("conf/x.ini", "include = sub/base.ini\n[layer.GD]\nnum_heads = 4\nchunk = 4\n");
    cr_assert_eq(config_load(&c, "conf/x.ini", words, 1), CHI_OK, "%s", fail_text());
    config_parse(c, "layer.GD", table, &g, use);
    cr_assert_eq(config_finish(c), CHI_OK, "%s", fail_text());
    cr_expect_eq(g.num_heads, 8);
    cr_expect_eq(g.chunk, 4);
    cr_expect_eq(g.scale, 0.5);
    char *want = xprintf("%s/conf/sub/base.txt", folder);
    cr_expect_str_eq(g.path, want);
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    config_print(c, f, true);
    fclose(f);
    cr_expect(strstr(text, "; command line\n") && strstr(text, "; conf/x.ini:4\n")
              && strstr(text, "; conf/sub/base.ini:4\n") && strstr(text, "; default\n"), "%s", text);
    config_free(c);
    cr_assert_eq(config_load(&c, "conf/x.ini", words, 2), CHI_OK);
    config_parse(c, "layer.GD", table, &g, use);
    free(want);
    want = xprintf("%s/p.txt", folder);
    cr_expect_str_eq(g.path, want);
    config_free(c);
}

Test(config, include_circles_are_refused_with_the_chain, .init = enter, .fini = leave)
{
    struct config *c;
    put("a.ini", "include = b.ini\n");
    put("b.ini", "\ninclude = ./c.ini\n");
    put("c.ini", "include = a.ini\n");
    put("self.ini", "include = self.ini\n");
    cr_assert_eq(config_load(&c, "a.ini", NULL, 0), CHI_OK);
    cr_expect_eq(config_finish(c), CHI_ECONF);
    cr_expect(strstr(fail_text(), "c.ini:1: include = a.ini: the files include each other in a circle: "
                     "a.ini -> b.ini -> c.ini -> a.ini"), "%s", fail_text());
    config_free(c);
    cr_assert_eq(config_load(&c, "self.ini", NULL, 0), CHI_OK);
    cr_expect_eq(config_finish(c), CHI_ECONF);
    cr_expect(strstr(fail_text(), "self.ini -> self.ini"), "%s", fail_text());
    config_free(c);
}

Test(config, files_that_cannot_be_read_fail_at_once, .init = enter, .fini = leave)
{
    struct config *c;
    put("a.ini", "\ninclude = gone.ini\n");
    cr_expect_eq(config_load(&c, "gone.ini", NULL, 0), CHI_ECONF);
    cr_expect(strstr(fail_text(), "gone.ini") && strstr(fail_text(), "No such file"), "%s", fail_text());
    cr_expect_null(c);
    cr_expect_eq(config_load(&c, "a.ini", NULL, 0), CHI_ECONF);
    cr_expect(strstr(fail_text(), "a.ini:2: include = gone.ini"), "%s", fail_text());
    cr_expect_eq(config_load(&c, "/", NULL, 0), CHI_ECONF);
    char *big = xcalloc(INI_FILE_MAX + 9, 1);
    memset(big, '\n', INI_FILE_MAX + 8);
    write_file("big.ini", big, INI_FILE_MAX + 8);
    cr_expect_eq(config_load(&c, "big.ini", NULL, 0), CHI_ECONF);
    cr_expect(strstr(fail_text(), "4 MB"), "%s", fail_text());
    write_file("nul.ini", "[a]\nk = \0v\n", 11);
    cr_expect_eq(config_load(&c, "nul.ini", NULL, 0), CHI_OK);
    cr_expect_eq(config_finish(c), CHI_ECONF);
    cr_expect(strstr(fail_text(), "nul.ini:2: a NUL byte in column 5"), "%s", fail_text());
    config_free(c);
    free(big);
}

Test(config, an_empty_file_and_none_at_all_are_fine, .init = enter, .fini = leave)
{
    struct config *c;
    char word[] = "a.k=v", *words[] = { word };
    put("empty.ini", "");
    cr_assert_eq(config_load(&c, "empty.ini", NULL, 0), CHI_OK);
    cr_expect_eq(config_finish(c), CHI_OK);
    cr_expect_not(config_has(c, "a"));
    config_free(c);
    cr_assert_eq(config_load(&c, NULL, words, 1), CHI_OK);
    cr_expect_null(config_path(c));
    cr_expect(config_has(c, "a"));
    cr_expect_str_eq(config_get(c, "a", "k"), "v");
    cr_expect_null(config_get(c, "a", "other"));
    cr_expect_eq(config_finish(c), CHI_OK, "%s", fail_text());
    config_free(c);
}

Test(config, overrides_name_section_and_key_by_the_last_dot)
{
    struct config *c;
    char a[] = "linear.layers.*.q_proj.quantizer=x = y ; z", b[] = "a.k=1", d[] = "a.k=2";
    char *words[] = { a, b, d };
    cr_assert_eq(config_load_text(&c, "x.ini", "[linear.layers.*.q_proj]\n", words, 3), CHI_OK);
    cr_expect_str_eq(config_get(c, "linear.layers.*.q_proj", "quantizer"), "x = y ; z");
    cr_expect_str_eq(config_get(c, "a", "k"), "2");
    cr_expect_str_eq(config_section(c, "linear.", 0), "linear.layers.*.q_proj");
    cr_expect_null(config_section(c, "linear.", 1));
    cr_expect_eq(config_finish(c), CHI_OK, "%s", fail_text());
    config_free(c);
    char *bad[] = { (char[]){ "=1" }, (char[]){ "a=1" }, (char[]){ ".a=1" }, (char[]){ "a.=1" }, (char[]){ "a.b" },
                    (char[]){ "a b.c=1" }, (char[]){ "" }, (char[]){ "a.b=\xff" } };
    for (int i = 0; i < COUNT(bad); i++) {
        cr_assert_eq(config_load(&c, NULL, bad + i, 1), CHI_OK);
        cr_expect_eq(config_finish(c), CHI_ECONF, "%s", bad[i]);
        cr_expect(strstr(fail_text(), "command line: '"), "%s", fail_text());
        config_free(c);
    }
}

/* ---- garbage ----------------------------------------------------------------------------- */

static uint32_t rnd(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*s >> 33);
}

/* Random bytes, and sane files with bytes changed, taken out or doubled            */
Test(config, garbage_never_crashes_and_never_passes_in_silence, .init = enter, .fini = leave)
{
    static const char sane[] = "; a\n[layer.GD]\nuse = gated\nnum_heads = 8 ; x\nnote = \"a ; b\\x41\"\n  \nsizes = "
        "1, 4-8\n"
                               "path = x\n[b]\nk = v\n   more of it\n";
    uint64_t seed = 7;
    for (int i = 0; i < 4000; i++) {
        char text[600];
        size_t n = i & 1 ? rnd(&seed) % 300 : sizeof sane - 1;
        if (i & 1) for (size_t j = 0; j < n; j++) text[j] = i & 2 ? (char)rnd(&seed)
            : "[]=;#\"\\ \t\n\rak.:|"[rnd(&seed) % 17];
        else memcpy(text, sane, n);
        for (uint32_t k = rnd(&seed) % 4; k && n > 1; k--) {
            size_t at = rnd(&seed) % n, len = min_i64(rnd(&seed) % 30, (int64_t)(n - at));
            if (k & 1) text[at] = (char)rnd(&seed);
            else if (k & 2) memmove(text + at, text + at + len, n - at - len), n -= len;
        }
        write_file("f.ini", text, n);
        struct config *c;
        struct gd g;
        chi_status s = config_load(&c, "f.ini", NULL, 0);
        if (s != CHI_OK) {              /* an include of a file that is not there */
            cr_assert_eq(s, CHI_ECONF);
            continue;
        }
        config_get(c, "b", "k");
        bool fine = config_parse(c, "layer.GD", table, &g, use);
        s = config_finish(c);
        cr_assert(s == CHI_OK || (s == CHI_ECONF && *fail_text()));
        cr_assert(fine || s == CHI_ECONF);
        for (const char *p = fail_text(); s && *p; p++) cr_assert((unsigned char)*p >= 32 || *p == '\n');
        cr_assert(s || !memchr(text, 0, n));
        config_free(c);
    }
}

Test(config, the_limits_of_a_line)
{
    struct config *c;
    char *text = xcalloc(INI_LINE_MAX + 100, 1);
    strcpy(text, "[a]\nk = ");
    memset(text + 8, 'v', INI_LINE_MAX - 4);
    cr_assert_eq(config_load_text(&c, "x.ini", text, NULL, 0), CHI_OK);
    cr_expect_eq(strlen(config_get(c, "a", "k")), INI_LINE_MAX - 4);
    cr_expect_eq(config_finish(c), CHI_OK);
    config_free(c);
    strcat(text, "vvvvv\nnext = 1\n");
    cr_assert_eq(config_load_text(&c, "x.ini", text, NULL, 0), CHI_OK);
    cr_expect_str_eq(config_get(c, "a", "next"), "1");
    cr_expect_eq(config_finish(c), CHI_ECONF);
    cr_expect(strstr(fail_text(), "x.ini:2: the line has 65541 bytes"), "%s", fail_text());
    config_free(c);
    free(text);
}

/* Whoever sends a model chooses no files of ours to read                                */
Test(config, a_text_inside_a_model_includes_nothing, .init = enter, .fini = leave)
{
    struct config *c;
    put("b.ini", "[a]\nk = 1\n");
    cr_assert_eq(config_load_text(&c, "m.b158", "include = b.ini\n", NULL, 0), CHI_OK);
    cr_expect_not(config_has(c, "a"));
    cr_expect_eq(config_finish(c), CHI_ECONF);
    cr_expect(strstr(fail_text(), "m.b158:1: include = b.ini: a configuration inside"), "%s", fail_text());
    config_free(c);
}

/* Nor files to run                                                                       */
Test(config, a_text_inside_a_model_loads_no_plugins, .init = enter, .fini = leave)
{
    static const char inside[] = "[plugins]\npath = /strange\nload = /strange/x.so\n";
    char *words[] = { "plugins.path=/mine" };
    for (int n = 0; n < 2; n++) {
        struct config *c;
        cr_assert_eq(config_load_text(&c, "m.b158", inside, words, n), CHI_OK);
        cr_expect_null(config_get(c, "plugins", "load"));
        const char *path = config_get(c, "plugins", "path");
        cr_expect(n ? path && !strcmp(path, "/mine") : !path);
        config_free(c);
    }
}
