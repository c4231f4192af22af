/* run_env.c - env.json: what a run was made with, so that it can be made again.   */
#include "run.h"
#include "core.h"
#include "fs.h"
#include "json.h"
#include "pool.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/utsname.h>

#ifndef CHI_BUILD_FLAGS
# define CHI_BUILD_FLAGS "unknown"
#endif

static void member(FILE *f, const char *key, const char *value)
{
    fprintf(f, "  \"%s\": ", key);
    json_quote(f, value ? value : "");
    fputs(",\n", f);
}

static chi_status put_plugin(FILE *f, const struct plugin_info *p)
{
    uint64_t hash = 0;
    int64_t bytes = 0;
    bool linked_in = p->path[0] != '/' && !fs_exists(p->path);
    if (!linked_in) TRY(fs_hash(p->path, &bytes, &hash));
    fputs("    {\"name\": ", f);
    json_quote(f, p->plugin->name);
    fputs(", \"version\": ", f);
    json_quote(f, p->plugin->version ? p->plugin->version : "");
    fprintf(f, ", \"abi\": \"%d.%d\", \"path\": ", p->plugin->abi_major, p->plugin->abi_minor);
    json_quote(f, p->path);
    if (!linked_in) fprintf(f, ", \"bytes\": %" PRId64 ", \"xxh3\": \"%016" PRIx64 "\"", bytes, hash);
    putc('}', f);
    return CHI_OK;
}

static chi_status put_env(FILE *f, const struct spec *s, uint64_t data_hash)
{
    char features[128] = "";
    struct utsname u;
    cpu_feature_names(cpu_features(), features);
    fputs("{\n", f);
    member(f, "version", CHIMERA_VERSION);
    fprintf(f, "  \"abi\": \"%d.%d\",\n", CHI_ABI_MAJOR, CHI_ABI_MINOR);
    member(f, "compiler", __VERSION__);
    member(f, "flags", CHI_BUILD_FLAGS);
    member(f, "cpu", cpu_name());
    member(f, "cpu_features", features);
    if (uname(&u) == 0) {
        member(f, "system", u.sysname);
        member(f, "kernel", u.release);
        member(f, "machine", u.machine);
        member(f, "host", u.nodename);
    }
    fprintf(f, "  \"threads\": %d,\n", pool_size());
    fprintf(f, "  \"config_hash\": \"%016" PRIx64 "\",\n", config_hash(s->config));
    fprintf(f, "  \"data_hash\": \"%016" PRIx64 "\",\n  \"plugins\": [", data_hash);
    const struct plugin_info *p;
    bool first = true;
    for (int64_t i = 0; (p = registry_plugin(s->registry, i)); i++) {
        if (!p->plugin || p->shadowed) continue;
        fputs(first ? "\n" : ",\n", f);
        first = false;
        TRY(put_plugin(f, p));
    }
    fputs("\n  ]\n}\n", f);
    return CHI_OK;
}

chi_status run_write_env(struct run *r, const struct spec *spec, uint64_t data_hash)
{
    char *text = NULL, *path = fs_join(run_dir(r), "env.json");
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    chi_status s = f ? put_env(f, spec, data_hash) : CHI_OK;
    if ((!f || fclose(f)) && s == CHI_OK) s = fail(CHI_ENOMEM, "no memory for the text of %s", path);
    if (s == CHI_OK) s = fs_write_atomic(path, text, (int64_t)n);
    free(text);
    free(path);
    return s;
}
