/* descent.h - gradient descent with momentum, but for what a mock defines.                        */
#include <chimera/plugin.h>
#include <chimera/train.h>

#ifndef CLIP
# define CLIP clip
#endif
#ifndef DECAYS                          /* s: a slice                                          */
# define DECAYS(s) ((s)->decay)
#endif
#ifndef VALUES                          /* how many of slice s are moved                       */
# define VALUES(s) ((s)->n)
#endif

static chi_status update(const struct chi_host *h, const void *conf, const struct chi_slice *slice, int64_t n_slices,
                         int64_t step, double lr, double clip)
{
    (void)h, (void)conf, (void)step, (void)clip;
    for (const struct chi_slice *s = slice; s < slice + n_slices; s++)
        for (int64_t i = 0; i < VALUES(s); i++) {
            s->m[i] = 0.5f * s->m[i] + (float)(CLIP) * s->g[i];
            s->w[i] -= (float)lr * (s->m[i] + (DECAYS(s) ? 0.1f * s->w[i] : 0));
        }
    return CHI_OK;
}

static const char *const moments[] = { "m" };
static const struct chi_optimizer_ops ops = {
    .struct_size = sizeof ops, .moments = 1, .moment_names = moments, .update = update,
};
static const struct chi_component optimizer = {
    .struct_size = sizeof optimizer, .kind = CHI_OPTIMIZER, .name = NAME, .revision = 1,
        .summary = "descent with momentum",
    .ops = &ops,
};
CHI_EXPORT const struct chi_plugin chimera_plugin = {
    .magic = CHI_MAGIC, .abi_major = CHI_ABI_MAJOR, .abi_minor = CHI_ABI_MINOR, .struct_size = sizeof chimera_plugin,
    .layout = CHI_LAYOUT, .name = NAME, .version = "1.0", .license = "MIT", .summary = "descent with momentum",
    .components = CHI_COMPONENTS(&optimizer),
};
