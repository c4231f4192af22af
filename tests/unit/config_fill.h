/* config_fill.h - a struct with options of every type, filled from lines of INI.  */
#ifndef CONFIG_FILL_H
#define CONFIG_FILL_H

#include "config.h"
#include "core.h"
#include "dialect.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct gd {
    int64_t num_heads, chunk;
    double  scale;
    bool    bias;
    int32_t key_norm;
    const char *note, *path, *gate;
    struct chi_list sizes;
};

static const struct chi_option table[] = {
    CHI_INT(struct gd, num_heads, "40", 1, 256, "number of heads", CHI_OPT_SHAPE),
    CHI_INT(struct gd, chunk, "4k", 0, INFINITY, "tokens per chunk", CHI_OPT_RUNTIME),
    CHI_FLOAT(struct gd, scale, "0.1", -1, 1, "scale of keys", 0),
    CHI_BOOL(struct gd, bias, "no", "adds a bias", CHI_OPT_SHAPE),
    CHI_ENUM(struct gd, key_norm, "l2", "none|l2|rms", "normalisation of keys", 0),
    CHI_STRING(struct gd, note, "", "a remark", 0),
    CHI_PATH(struct gd, path, "", "a file", 0),
    CHI_REF(struct gd, gate, "swiglu", "layer", "the gate", 0),
    CHI_LIST(struct gd, sizes, "1, 2", 0, 1000, "sizes", 0),
    CHI_OPTIONS_END
};
static const char *const use[] = { "use", NULL };

static inline chi_status fill_with(struct config **c, struct gd *g, const char *text, char **words, int n)
{
    TRY(config_load_text(c, "conf/x.ini", text, words, n));
    config_parse(*c, "layer.GD", table, g, use);
    return config_finish(*c);
}

static inline chi_status fill(struct config **c, struct gd *g, const char *text)
{
    return fill_with(c, g, text, NULL, 0);
}

/* One option of [layer.GD]: the whole error text, or "" if there is none          */
static inline const char *error_of(const char *line)
{
    static char *text;
    struct config *c;
    struct gd g;
    char *ini = xprintf("[layer.GD]\n%s\n", line);
    chi_status s = fill(&c, &g, ini);
    free(text);
    text = xstrdup(s == CHI_OK ? "" : fail_text());
    config_free(c);
    free(ini);
    return text;
}

static inline struct gd good(struct config **c, const char *line)
{
    struct gd g;
    char *ini = xprintf("[layer.GD]\n%s\n", line);
    cr_assert_eq(fill(c, &g, ini), CHI_OK, "%s: %s", line, fail_text());
    free(ini);
    return g;
}

static inline void write_file(const char *path, const char *text, size_t n)
{
    FILE *f = fopen(path, "w");
    cr_assert_not_null(f);
    fwrite(text, 1, n, f);
    fclose(f);
}

static inline void put(const char *path, const char *text)
{
    write_file(path, text, strlen(text));
}

static char folder[SCRATCH_SIZE];

static inline void enter(void)
{
    make_scratch(folder);
    cr_assert_eq(chdir(folder), 0);
}

static inline void leave(void)
{
    char *cmd = xprintf("rm -rf %s", folder);
    cr_assert_eq(chdir("/"), 0);
    cr_assert_eq(system(cmd), 0);
    free(cmd);
}

#endif
