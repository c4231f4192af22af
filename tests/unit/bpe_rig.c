/* bpe_rig.c - see bpe_rig.h.                                                                       */
#include "bpe_rig.h"

#include <unistd.h>

#include "core.h"
#include "fs.h"

char *data_path(const char *name)
{
    const char *source = getenv("srcdir");
    cr_assert(source, "run me through make check");
    return xprintf("%s/tests/data/tokenizers/%s", source, name);
}

chi_status open_with(struct open *o, const char *const *words)
{
    char *copy[8] = { NULL };
    int n = 0;
    struct config *c;
    for (; n < 8 && words[n]; n++) copy[n] = xstrdup(words[n]);
    chi_status s = config_load(&c, NULL, copy, n);
    *o = (struct open){ NULL, NULL };
    if (s == CHI_OK) s = spec_open(&o->spec, c, SPEC_TOKENIZER);
    if (s == CHI_OK) s = tokens_open_alone(&o->t, o->spec);
    for (int i = 0; i < n; i++) free(copy[i]);
    return s;
}

void open_file(struct open *o, const char *tokenizer, const char *file, const char *more)
{
    char *name = xprintf("data.tokenizer=%s", tokenizer), *path = data_path(file),
        *set = xprintf("tokenizer.file=%s", path);
    cr_assert_eq(open_with(o, (const char *const[]){ name, set, more, NULL }), CHI_OK, "%s", fail_text());
    free(name);
    free(path);
    free(set);
}

void shut(struct open *o)
{
    tokens_close(o->t);
    spec_close(o->spec);
}

unsigned char *file_of(const char *name, int64_t *n)
{
    unsigned char *text;
    char *path = data_path(name);
    cr_assert_eq(fs_read(path, &text, n), CHI_OK, "%s", fail_text());
    free(path);
    return text;
}

void open_changed(struct open *o, const char *const (*change)[2], int n_change, const char *more)
{
    int64_t n;
    char path[] = "/tmp/chimera-bpe.XXXXXX", *text = (char *)file_of("small.json", &n),
        *file = xprintf("%.*s", (int)n, text);
    for (int i = 0; i < n_change; i++) {
        char *from = strstr(file, change[i][0]), *old = file;
        cr_assert(from, "%s", change[i][0]);
        file = xprintf("%.*s%s%s", (int)(from - old), old, change[i][1], from + strlen(change[i][0]));
        free(old);
    }
    int fd = mkstemp(path);
    char *set = xprintf("tokenizer.file=%s", path);
    cr_assert(fd >= 0 && fs_write_all(fd, file, (int64_t)strlen(file)));
    close(fd);
    cr_assert_eq(open_with(o, (const char *const[]){ "data.tokenizer=huggingface", set, more, NULL }), CHI_OK, "%s",
                 fail_text());
    remove(path);
    free(set);
    free(file);
    mem_free(text);
}

void open_with_pre(struct open *o, const char *pre)
{
    int64_t n;
    char *text = (char *)file_of("small.json", &n), *from = strstr(text, "\"pre_tokenizer\":");
    char *to = strstr(text, ",\"post_processor\"");
    cr_assert(from && to);
    char *was = xprintf("%.*s", (int)(to - from), from), *is = xprintf("\"pre_tokenizer\":%s", pre);
    open_changed(o, &(const char *const[2]){ was, is }, 1, NULL);
    free(was);
    free(is);
    mem_free(text);
}
