/* test_search.c - where components are looked for, in which order, and what is said
 * when there is none.                                                           */
#include "mocks.h"

TestSuite(search, .init = mocks_setup, .fini = mocks_teardown);

static struct registry *open_at(const char *extra)
{
    struct registry *r;
    cr_assert_eq(registry_open(&r, extra), CHI_OK, "%s", fail_text());
    return r;
}

static const struct plugin_info *info_of(struct registry *r, const char *path)
{
    const struct plugin_info *info;
    for (int64_t i = 0; (info = registry_plugin(r, i)); i++)
        if (!strcmp(info->path, path)) return info;
    return NULL;
}

Test(search, lazily)
{
    const struct chi_component *c;
    char *layer = install("good_layer", "layers/good_layer.so"),
        *quantizer = install("good_quantizer", "formats/good_quantizer.so");
    char *other = install("unfit", "layers/unfit.so");
    struct registry *r = open_at(scratch);
    cr_expect(!info_of(r, layer) && !info_of(r, quantizer), "nothing was asked for");
    cr_assert_eq(registry_find(r, CHI_LAYER, "good_layer", &c), CHI_OK, "%s", fail_text());
    cr_expect_str_eq(c->name, "good_layer");
    cr_expect_eq(c->kind, CHI_LAYER);
    cr_expect(!info_of(r, quantizer) && !info_of(r, other), "only the named file is opened");
    cr_expect_str_eq(registry_owner(r, c)->path, layer);
    cr_expect_str_eq(registry_owner(r, c)->folder, "layers");
    cr_expect_neq(registry_owner(r, c)->hash, 0u);
    cr_assert_eq(registry_find(r, CHI_QUANTIZER, "good_quantizer", &c), CHI_OK, "%s", fail_text());
    cr_expect_eq(c->kind, CHI_QUANTIZER);
    registry_close(r);
    free(layer), free(quantizer), free(other);
}

Test(search, other_files_of_the_folder)
{
    const struct chi_component *c;
    char *path = install("twin", "layers/twin.so");        /* brings good_layer     */
    struct registry *r = open_at(scratch);
    cr_assert_eq(registry_find(r, CHI_LAYER, "good_layer", &c), CHI_OK, "%s", fail_text());
    cr_expect_str_eq(registry_owner(r, c)->path, path);
    registry_close(r);
    free(path);
}

Test(search, says_what_is_closest)
{
    const struct chi_component *c = NULL;
    char *path = install("good_layer", "layers/good_layer.so"), *bad = install("no_ops", "layers/no_ops.so");
    char *quantizer = install("good_quantizer", "formats/good_quantizer.so");
    struct registry *r = open_at(scratch);
    cr_expect_eq(registry_find(r, CHI_LAYER, "god_layer", &c), CHI_EPLUGIN);
    cr_expect(strstr(fail_text(), "no layer is called 'god_layer', did you mean good_layer?"), "%s", fail_text());
    cr_expect(strstr(fail_text(), "(1 refused; see `chimera plugins`)"), "%s", fail_text());
    cr_expect_null(c);
    cr_expect_eq(registry_find(r, CHI_LAYER, "no_ops", &c), CHI_EPLUGIN);
    cr_expect(strstr(fail_text(), "layers/no_ops.so: layer no_ops has no ops"), "%s", fail_text());
    cr_expect_eq(registry_find(r, CHI_LAYER, "../layers/good_layer", &c), CHI_EPLUGIN);
    cr_assert_eq(registry_find(r, CHI_QUANTIZER, "good_quantizer", &c), CHI_OK);
    cr_expect_eq(registry_find(r, CHI_LAYER, "good_quantizer", &c), CHI_EPLUGIN);
    cr_expect(strstr(fail_text(), "no layer is called 'good_quantizer', it is a quantizer"), "%s", fail_text());
    registry_close(r);
    free(path), free(bad), free(quantizer);
}

Test(search, order_and_shadows)
{
    const struct chi_component *c;
    char *a = install("good_layer", "a/layers/good_layer.so"), *b = install("good_layer", "b/good_layer.so");
    char *twin = install("twin", "b/layers/twin.so");
    char *ab = xprintf("%s/a:%s/b", scratch, scratch), *env = xprintf("%s/b", scratch),
        *extra = xprintf("%s/a", scratch);
    struct registry *r = open_at(ab);
    registry_scan(r);
    cr_assert(info_of(r, a) && info_of(r, b) && info_of(r, twin));
    cr_expect(info_of(r, a)->plugin && !info_of(r, a)->shadowed);
    cr_expect(!info_of(r, b)->plugin && info_of(r, b)->shadowed);
    cr_expect(strstr(info_of(r, b)->reason, a), "%s", info_of(r, b)->reason);
    cr_expect(!info_of(r, twin)->plugin && !info_of(r, twin)->shadowed, "a component belongs to one plugin");
    cr_expect(strstr(info_of(r, twin)->reason, "brings layer good_layer, which"), "%s", info_of(r, twin)->reason);
    registry_close(r);

    setenv("CHIMERA_PLUGIN_PATH", env, 1);
    r = open_at(extra);
    cr_assert_eq(registry_find(r, CHI_LAYER, "good_layer", &c), CHI_OK);
    cr_expect_str_eq(registry_owner(r, c)->path, a, "the argument comes before the environment");
    registry_close(r);
    r = open_at(NULL);
    cr_assert_eq(registry_find(r, CHI_LAYER, "good_layer", &c), CHI_OK);
    cr_expect_str_eq(registry_owner(r, c)->path, b);
    registry_close(r);
    free(a), free(b), free(twin), free(ab), free(env), free(extra);
}

Test(search, a_refused_file_is_not_replaced_silently)
{
    const struct chi_component *c;
    char *bad = install("other_major", "a/layers/good_layer.so"),
        *good = install("good_layer", "b/layers/good_layer.so");
    char *ab = xprintf("%s/a:%s/b", scratch, scratch);
    struct registry *r = open_at(ab);
    cr_expect_eq(registry_find(r, CHI_LAYER, "good_layer", &c), CHI_EPLUGIN);
    cr_expect(strstr(fail_text(), "built for plugin ABI 1.3") && strstr(fail_text(), bad), "%s", fail_text());
    registry_close(r);
    free(bad), free(good), free(ab);
}

Test(search, build_tree)
{
    const struct chi_component *c;
    char *path = install("good_layer", "layers/.libs/good_layer.so");
    setenv("CHIMERA_BUILD_PLUGINS", scratch, 1);
    struct registry *r = open_at(NULL);
    cr_assert_eq(registry_find(r, CHI_LAYER, "good_layer", &c), CHI_OK, "%s", fail_text());
    cr_expect_str_eq(registry_owner(r, c)->path, path);
    registry_close(r);
    unsetenv("CHIMERA_BUILD_PLUGINS");  /* and not through the other variable    */
    setenv("CHIMERA_PLUGIN_PATH", scratch, 1);
    r = open_at(NULL);
    cr_expect_eq(registry_find(r, CHI_LAYER, "good_layer", &c), CHI_EPLUGIN);
    registry_close(r);
    free(path);
}

Test(search, never_the_current_folder)
{
    const struct chi_component *c;
    char *path = install("good_layer", "layers/good_layer.so"), *flat = install("good_layer", "good_layer.so");
    unsetenv("CHIMERA_BUILD_PLUGINS");
    cr_assert_eq(chdir(scratch), 0);
    struct registry *r = open_at(NULL);
    cr_expect_eq(registry_find(r, CHI_LAYER, "good_layer", &c), CHI_EPLUGIN);
    registry_close(r);
    static const char *const bad[] = { ".", "plugins", "::", "/tmp:", ":/tmp", "/tmp::/usr", "/tmp:x" };
    for (int64_t i = 0; i < COUNT(bad); i++) {
        cr_expect_eq(registry_open(&r, bad[i]), CHI_ECONF, "%s", bad[i]);
        cr_expect(strstr(fail_text(), "wanted") && strstr(fail_text(), "absolute"), "%s", fail_text());
        cr_expect_null(r);
        setenv("CHIMERA_PLUGIN_PATH", bad[i], 1);
        cr_expect_eq(registry_open(&r, NULL), CHI_ECONF, "%s", bad[i]);
        cr_expect(strstr(fail_text(), "CHIMERA_PLUGIN_PATH"), "%s", fail_text());
        unsetenv("CHIMERA_PLUGIN_PATH");
    }
    free(path), free(flat);
}

Test(search, unfit_components_are_not_used)
{
    const struct chi_component *c = NULL;
    char *path = install("unfit", "layers/unfit.so"), *good = install("good_layer", "layers/good_layer.so");
    unsetenv("CHIMERA_BUILD_PLUGINS");
    struct registry *r = open_at(scratch);
    cr_expect_eq(registry_find(r, CHI_LAYER, "unfit", &c), CHI_EPLUGIN);
    cr_expect(strstr(fail_text(), "layer unfit needs bit31, which this CPU"), "%s", fail_text());
    cr_expect_null(c);
    cr_expect(info_of(r, path)->plugin, "it is loaded all the same");
    cr_expect(strstr(info_of(r, path)->reason, "needs bit31"));
    for (int64_t i = 0; (c = registry_component(r, CHI_LAYER, i)); i++) cr_expect_str_neq(c->name, "unfit");
    registry_close(r);
    free(path), free(good);
}

Test(search, one_file_under_two_names)
{
    char *path = install("good_layer", "a/layers/good_layer.so"), *b = install("good_quantizer", "b/layers/x.so");
    char *hard = xprintf("%s/b/layers/good_layer.so", scratch), *ab = xprintf("%s/a:%s/b", scratch, scratch);
    cr_assert_eq(link(path, hard), 0);
    struct registry *r = open_at(ab);
    registry_scan(r);
    cr_expect(info_of(r, path) && info_of(r, path)->plugin);
    cr_expect_null(info_of(r, hard), "the same device and inode");
    registry_close(r);
    free(path), free(b), free(hard), free(ab);
}

Test(search, a_folder_that_anyone_can_write)
{
    const struct chi_component *c;
    char *path = install("good_layer", "layers/good_layer.so"), *dir = xprintf("%s/layers", scratch);
    chmod(dir, 0777);
    struct registry *r = open_at(scratch);
    cr_expect_eq(registry_find(r, CHI_LAYER, "good_layer", &c), CHI_EPLUGIN);
    cr_expect(strstr(fail_text(), "folder is world-writable"), "%s", fail_text());
    registry_scan(r);
    cr_expect_null(info_of(r, path));
    cr_assert(info_of(r, dir));
    cr_expect(strstr(info_of(r, dir)->reason, "chmod o-w"), "%s", info_of(r, dir)->reason);
    registry_close(r);
    free(path), free(dir);
}

Test(search, a_crash_does_not_end_a_scan)
{
    char *bad = install("crash_constructor", "layers/crash_constructor.so"),
        *good = install("good_layer", "layers/good_layer.so");
    struct registry *r = open_at(scratch);
    registry_scan(r);
    cr_assert(info_of(r, bad) && info_of(r, good));
    cr_expect(!info_of(r, bad)->plugin && strstr(info_of(r, bad)->reason, "crashed while it was loaded"));
    cr_expect(info_of(r, good)->plugin);
    registry_close(r);
    free(bad), free(good);
}

Test(search, kinds)
{
    for (int k = 1; k < CHI_KINDS; k++) {
        cr_expect_eq(kind_from_name(kind_name(k)), k);
        cr_expect_neq(*kind_folder(k), 0);
    }
    cr_expect_eq(kind_from_name("nothing"), 0);
    cr_expect_str_eq(kind_folder(CHI_BACKEND), "kernels");
    cr_expect_str_eq(kind_folder(CHI_ENCODING), "formats");
}
