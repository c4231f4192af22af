/* import.c - chimera import: which of its kinds a file is.                                                    */
#include "import.h"

#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "export.h"
#include "fs.h"
#include "import_run.h"
#include "safetensors.h"

/* Safetensors: numbers as floats, or masters                                                                    */
static chi_status import_safetensors(const struct import_request *q, FILE *report)
{
    struct st_file *f;
    TRY(st_open(&f, q->subject));
    const char *format = st_meta(f, "format");
    bool numbers = !q->config && format && !strncmp(format, EXPORT_FLOATS, strcspn(EXPORT_FLOATS, " "));
    st_close(f);
    return numbers ? import_numbers(q, report) : import_masters(q, report);
}

static bool is_checkpoint(const char *folder)
{
    char *json = fs_join(folder, "config.json"), *yaml = fs_join(folder, "config.yaml");
    bool is = fs_is_dir(folder) && (fs_exists(json) || fs_exists(yaml));
    free(json);
    free(yaml);
    return is;
}

chi_status import_model(const struct import_request *q, FILE *report)
{
    if (!fs_exists(q->subject)) return fail(CHI_ECONF, "%s: no such file or folder", q->subject);
    if (!*q->out) return fail(CHI_ECONF, "-o '': must be a file's or a folder's name");
    TRY(fs_name_free(q->out));
    if (fs_is_dir(q->subject) && !is_checkpoint(q->subject))
        return fail(CHI_EDATA,
                    "%s has no config.json or config.yaml: wanted is a GGUF or safetensors file, or the folder of a "
                    "checkpoint", q->subject);
    if (q->config && (fs_is_dir(q->subject) || fs_begins(q->subject, "GGUF")))
        return fail(CHI_ECONF, "--config %s: %s brings its own; --config is for a safetensors file that brings none",
                    q->config, q->subject);
    if (fs_is_dir(q->subject)) TRY(import_checkpoint(q, report));
    else if (fs_begins(q->subject, "GGUF")) TRY(import_numbers(q, report));
    else TRY(import_safetensors(q, report));
    note("%s is written", q->out);
    return CHI_OK;
}
