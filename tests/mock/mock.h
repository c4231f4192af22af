/* mock.h - the healthy parts of the plugins in this folder.
 *
 * Each file here commits one sin (or none) and is named after it; test_registry.c
 * expects the words with which it is refused.                                   */
#ifndef MOCK_H
#define MOCK_H

#include <chimera/format.h>
#include <chimera/plugin.h>

/* chimera_plugin with every field of its head chosen                            */
#define MOCK_PLUGIN(magic_, major, minor, size, layout_, name_, ...)          \
    extern const struct chi_plugin chimera_plugin;                            \
    CHI_EXPORT const struct chi_plugin chimera_plugin = {                     \
        .magic = magic_, .abi_major = major, .abi_minor = minor,              \
        .struct_size = size, .layout = layout_, .name = name_,                \
        .version = "1.0", .license = "MIT", .summary = "a mock",              \
        .components = CHI_COMPONENTS(__VA_ARGS__) }

/* The usual head                                                                */
#define MOCK_NAMED(name_, ...)                                                \
    MOCK_PLUGIN(CHI_MAGIC, CHI_ABI_MAJOR, CHI_ABI_MINOR, sizeof(struct chi_plugin), \
                CHI_LAYOUT, name_, __VA_ARGS__)

static inline chi_status mock_open(const struct chi_host *h, void *self, const void *conf,
                                   const struct chi_shape *shape, const struct chi_plan_ops *ops,
                                   struct chi_plan *plan)
{
    (void)h, (void)self, (void)conf, (void)shape, (void)ops, (void)plan;
    return CHI_OK;
}

static inline chi_status mock_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    (void)self, (void)r, (void)x, (void)y;
    return CHI_OK;
}

#define MOCK_OPS                                                              \
    static const struct chi_layer_ops mock_ops = {                            \
        .struct_size = sizeof mock_ops, .open = mock_open, .forward = mock_forward }

#define MOCK_LAYER(name_, ...)                                                \
    { .struct_size = sizeof(struct chi_component), .kind = CHI_LAYER,         \
      .name = name_, .revision = 1, .caps = CHI_LAYER_NO_GRAD,                \
      .summary = "a mock layer", .ops = &mock_ops, __VA_ARGS__ }

struct mock_conf { int64_t width; double rate; };

#endif
