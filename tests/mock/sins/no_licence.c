/* no_licence.c - nobody knows whether it may be used. */
#define NAME no_licence
#define MORE .summary = "a leaky sum of the past"
#undef CHI_PLUGIN
#include <chimera/plugin.h>
#undef CHI_PLUGIN
#define CHI_PLUGIN(n, ...)                                                    \
    CHI_EXPORT extern const struct chi_plugin chimera_plugin;                 \
    const struct chi_plugin chimera_plugin = {                                \
        .magic = CHI_MAGIC, .abi_major = CHI_ABI_MAJOR, .abi_minor = CHI_ABI_MINOR, .struct_size = sizeof(struct chi_plugin), \
        .layout = CHI_LAYOUT, .name = "no_licence", .version = "1.0", .summary = "a mock", .components = CHI_COMPONENTS(&layer) }
#include "healthy.h"
