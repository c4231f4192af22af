/* chimera/plugin.h - the one symbol that a plugin exports.
 *
 *     static const struct chi_component ema = { ... };
 *     CHI_PLUGIN(ema, .version = "1.0", .license = "MIT",
 *                .summary = "exponential moving average",
 *                .components = CHI_COMPONENTS(&ema));
 *
 * Compiled by one line, into a file of the same name, in a folder that others may
 * not write; [plugins] path, --path or $CHIMERA_PLUGIN_PATH names that folder:
 *
 *     cc -std=c11 -O2 -Wall -shared -fPIC $(pkg-config --cflags chimera) -o ema.so ema.c
 *
 * A plugin may call libc and libm.  math.h (chi_exp, ...), train.h and data.h are
 * included by those who need them; this header brings the others.  NULL members
 * of ops that no comment calls optional are refused.
 *
 * It is data: reading it runs nothing of the plugin's.  The same source linked
 * into the program (configure --with-ema=static, or a machine without dlopen)
 * exports chimera_plugin_ema instead.                                          */
#ifndef CHIMERA_PLUGIN_H
#define CHIMERA_PLUGIN_H

#include "base.h"
#include "option.h"
#include "layer.h"

enum {                              /* kind             ops is a                */
    CHI_LAYER = 1,                  /* struct chi_layer_ops       layer.h       */
    CHI_BACKEND,                    /* struct chi_backend_ops     kernel.h      */
    CHI_QUANTIZER,                  /* struct chi_quantizer_ops   format.h      */
    CHI_ENCODING,                   /* struct chi_encoding_ops    format.h      */
    CHI_OBJECTIVE,                  /* struct chi_objective_ops   train.h       */
    CHI_OPTIMIZER,                  /* struct chi_optimizer_ops   train.h       */
    CHI_TOKENIZER,                  /* struct chi_tokenizer_ops   data.h        */
    CHI_TASK,                       /* struct chi_task_ops        data.h        */
    CHI_LOOP,                       /* struct chi_loop_ops        loop.h        */
    CHI_ADAPTER,                    /* struct chi_adapter_ops     format.h      */
    CHI_KINDS
};

struct chi_component {
    uint32_t    struct_size;
    int32_t     kind;
    const char *name;               /* [a-z0-9_]+, unique per kind              */
    uint32_t    revision;           /* of its parameters and state: checkpoints of
                                       another revision are refused             */
    uint32_t    caps;               /* CHI_LAYER_... and friends                */
    uint32_t    needs;              /* CHI_CPU_...                              */
    const char *summary;            /* one line                                 */
    const char *papers;             /* "2412.06464 2405.04517", or NULL         */
    const char *const *meters;      /* names for host->meter, or NULL           */
    const struct chi_option *options;           /* or NULL: none                */
    uint32_t    conf_size;          /* of the struct that options fill          */
    /* Optional: rules between options, after each passed its own               */
    chi_status (*check)(const struct chi_host *, const void *conf);
    const void *ops;                /* by kind; begins with its struct_size     */
};

struct chi_plugin {
    uint32_t    magic;              /* CHI_MAGIC                                */
    uint16_t    abi_major, abi_minor;
    uint32_t    struct_size;
    uint32_t    layout;             /* CHI_LAYOUT as the plugin's compiler saw it */
    const char *name;               /* equals the file's base name              */
    const char *version, *license, *summary, *url;
    const struct chi_component *const *components;          /* NULL-terminated  */
};

/* A fingerprint: catches packed structs, another data model and stale headers, none
 * of which the version number can see.  It takes the sizes of what lies in arrays, and
 * of tables that grow the place of the last member that they had when MAJOR moved, so
 * that a member appended later changes nothing.                                */
#define CHI_LAYOUT                                                            \
    ((uint32_t)sizeof(struct chi_option)                                      \
     ^ (uint32_t)sizeof(struct chi_segment) << 8                              \
     ^ (uint32_t)sizeof(void *) << 16 ^ (uint32_t)_Alignof(int64_t) << 22     \
     ^ (uint32_t)offsetof(struct chi_host, service) << 12                     \
     ^ (uint32_t)offsetof(struct chi_run, keep) << 4                          \
     ^ (uint32_t)offsetof(struct chi_kernels, quantize_i8) << 20              \
     ^ (uint32_t)sizeof(bool) << 28)

#define CHI_COMPONENTS(...)                                                   \
    (const struct chi_component *const[]){ __VA_ARGS__, NULL }

#ifdef CHI_STATIC
# define CHI_SYMBOL_(n) chimera_plugin_##n
# define CHI_SYMBOL(n)  CHI_SYMBOL_(n)
#else
# define CHI_SYMBOL(n)  chimera_plugin
#endif

#define CHI_PLUGIN(n, ...)                                                    \
    extern const struct chi_plugin CHI_SYMBOL(n);                             \
    CHI_EXPORT const struct chi_plugin CHI_SYMBOL(n) = {                      \
        .magic = CHI_MAGIC, .abi_major = CHI_ABI_MAJOR,                       \
        .abi_minor = CHI_ABI_MINOR, .struct_size = sizeof(struct chi_plugin), \
        .layout = CHI_LAYOUT, .name = #n, __VA_ARGS__ }

#endif
