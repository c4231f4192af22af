/* test_static.c - plugins that are linked in come first and pass the same checks.
 *
 * The table here takes the place of the one that the Makefile makes.            */
#include "core.h"
#include "registry.h"

#include <criterion/criterion.h>
#include <string.h>

static chi_status loss(const struct chi_host *h, const void *conf, const float *logits, const int32_t *target,
                       int64_t rows, int64_t vocab, double scale, float *dlogits, double *sum)
{
    (void)h, (void)conf, (void)logits, (void)target, (void)rows, (void)vocab, (void)scale, (void)dlogits, (void)sum;
    return CHI_OK;
}

#include <chimera/train.h>
static const struct chi_objective_ops ops = { .struct_size = sizeof ops, .loss = loss };
static const struct chi_component mock = {
    .struct_size = sizeof mock, .kind = CHI_OBJECTIVE, .name = "mock_static", .revision = 1,
    .summary = "a mock objective", .ops = &ops,
};
#define CHI_STATIC
#undef CHI_SYMBOL
#define CHI_SYMBOL_(n) chimera_plugin_##n
#define CHI_SYMBOL(n)  CHI_SYMBOL_(n)
CHI_PLUGIN(mock_static, .version = "1.0", .license = "MIT", .summary = "a mock", .components = CHI_COMPONENTS(&mock));
CHI_PLUGIN(mock_again, .version = "1.0", .license = "MIT", .summary = "a mock", .components = CHI_COMPONENTS(&mock));

const struct chi_plugin *const static_plugins[] = { &chimera_plugin_mock_static, &chimera_plugin_mock_again, NULL };
const char plugin_folder[] = "/nowhere";

Test(statics, found_first)
{
    struct registry *r;
    const struct chi_component *c;
    cr_assert_eq(registry_open(&r, NULL), CHI_OK, "%s", fail_text());
    const struct plugin_info *info = registry_plugin(r, 0);
    cr_assert(info);
    cr_expect_str_eq(info->path, "(static)");
    cr_expect_str_eq(info->folder, "");
    cr_expect_eq(info->plugin, &chimera_plugin_mock_static);
    cr_assert_eq(registry_find(r, CHI_OBJECTIVE, "mock_static", &c), CHI_OK, "%s", fail_text());
    cr_expect_eq(c, &mock);
    cr_expect_eq(registry_owner(r, c), info);

    info = registry_plugin(r, 1);
    cr_assert(info);
    cr_expect_null(info->plugin);
    cr_expect(strstr(info->reason, "brings objective mock_static, which (static) brings already"), "%s",
              info->reason);
    registry_close(r);
}
