/* import_run.c - see import_run.h: finding each tensor under its other name, and writing a run folder whose first
 * checkpoint (step 0, no moments of an optimizer) holds them.
 *
 * Every shape is checked and every tensor of the files is accounted for before the folder is made; then one tensor
 * after the other passes through, so memory is that of the largest.                                              */
#include "import_run.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "carry.h"
#include "ckpt.h"
#include "core.h"
#include "export.h"
#include "fs.h"
#include "network.h"
#include "signals.h"

enum { FILES_MAX = 4096 };

struct origin { int64_t file, tensor, first; bool ones; };      /* first: rows of the tensor that are not ours    */

struct bring {
    const struct import_request *request;
    struct st_file **file; int64_t n_file;
    bool  **used;                       /* [n_file][tensors]                                                     */
    struct layout layout;
    uint64_t vocabulary;                /* that the file names, 0: none                                          */
    struct spec *spec;
    struct model *plan;
    struct origin *origin;              /* [n_tensor]                                                            */
};

static chi_status add_file(struct bring *b, const char *path)
{
    int64_t n = 0;
    struct st_file *f;
    TRY(st_open(&f, path));
    b->file = xrealloc(b->file, (size_t)(b->n_file + 1) * sizeof *b->file);
    b->used = xrealloc(b->used, (size_t)(b->n_file + 1) * sizeof *b->used);
    while (st_at(f, n)) n++;
    b->used[b->n_file] = xcalloc((size_t)n + 1, sizeof **b->used);
    b->file[b->n_file++] = f;
    return CHI_OK;
}

/* ---- names ------------------------------------------------------------------------------------------------ */

/* Does name match ours?  Then *out is theirs with the same layer and the same rest (caller frees)                */
static bool translate(const struct alias *a, const char *name, char **out)
{
    const char *p = a->ours, *layer = "";
    int n = 0;
    while (*p && *p != '*') {
        if (*p == '%') {
            layer = name;
            n = (int)strspn(name, "0123456789");
            if (!n) return false;
            name += n;
            p++;
        } else if (*p++ != *name++)
            return false;
    }
    if (!*p && *name) return false;
    const char *percent = strchr(a->theirs, '%'), *rest = percent ? percent + 1 : a->theirs;
    int before = percent ? (int)(percent - a->theirs) : 0, length = (int)strcspn(rest, "*");
    *out = xprintf("%.*s%.*s%.*s%s", before, a->theirs, percent ? n : 0, layer, length, rest, *p ? name : "");
    return true;
}

static const struct st_tensor *find(const struct bring *b, const char *name, struct origin *o)
{
    for (int64_t f = 0; f < b->n_file; f++) {
        const struct st_tensor *t = st_find(b->file[f], name);
        if (!t) continue;
        o->file = f;
        for (o->tensor = 0; st_at(b->file[f], o->tensor) != t; o->tensor++) continue;
        return t;
    }
    return NULL;
}

static int64_t rows_of(const struct bring *b, const char *name)
{
    for (int64_t t = 0; t < b->plan->n_tensor; t++)
        if (!strcmp(b->plan->tensor[t].name, name)) return b->plan->tensor[t].shape[0];
    return 0;
}

/* Rows of the fused tensor, *theirs (caller frees), that come before want's; -1: it has no part in it.
 * *total: all */
static int64_t fused_rows(const struct bring *b, const struct fused *f, const char *want, int64_t *total,
                          char **theirs)
{
    int i = 0;
    int64_t first = 0;
    *total = 0;
    *theirs = NULL;
    while (f->ours[i] && !translate(&(struct alias){ f->ours[i], f->theirs }, want, theirs)) i++;
    for (int j = 0; f->ours[i] && f->ours[j]; j++) {
        char *other;
        if (!translate(&(struct alias){ f->ours[i], f->ours[j] }, want, &other)) continue;
        int64_t rows = rows_of(b, other);
        if (j < i) first += rows;
        *total += rows;
        free(other);
    }
    return *theirs ? first : -1;
}

static char *shape_text(const int64_t *dim, int n)
{
    char *text = xstrdup("[");
    for (int i = 0; i < n; i++) {
        char *more = xprintf("%s%s%lld", text, i ? ", " : "", (long long)dim[i]);
        free(text);
        text = more;
    }
    char *all = xprintf("%s]", text);
    free(text);
    return all;
}

/* [rows, columns] of ours is [rows, 1, columns] of a convolution elsewhere; of a fused one the rows are the total */
static chi_status check_shape(const struct bring *b, const struct origin *o, const struct model_tensor *want,
                              int64_t rows)
{
    const struct st_tensor *t = st_at(b->file[o->file], o->tensor);
    int64_t shape[4], dim[8];
    int n = 0, have = 0;
    for (; n < 4 && want->shape[n]; n++) shape[n] = want->shape[n];
    shape[0] = rows;
    for (int i = 0; i < t->n_dim; i++)
        if (!(i == 1 && t->n_dim == n + 1 && t->dim[1] == 1)) dim[have++] = t->dim[i];
    if (have == n && !memcmp(dim, shape, (size_t)n * sizeof *shape)) return CHI_OK;
    char *found = shape_text(t->dim, t->n_dim), *wanted = shape_text(shape, n);
    chi_status s = fail(CHI_EDATA, "%s: tensor %s is %s, wanted is %s: it becomes %s", st_path(b->file[o->file]),
                        t->name, found, wanted, want->name);
    free(found);
    free(wanted);
    return s;
}

/* The first alias whose tensor is there; *name: how the first alias calls it (caller frees)                       */
static bool find_alias(const struct bring *b, const char *want, struct origin *o, char **name)
{
    static const struct alias same[] = { { "*", "*" }, { NULL, NULL } };
    *name = NULL;
    for (const struct alias *a = b->layout.alias ? b->layout.alias : same; a->ours; a++) {
        char *theirs;
        if (!translate(a, want, &theirs)) continue;
        bool there = find(b, theirs, o);
        if (*name) free(theirs);
        else *name = theirs;
        if (there) return true;
    }
    return false;
}

static bool find_fused(const struct bring *b, const char *want, struct origin *o, int64_t *rows)
{
    for (const struct fused *f = b->layout.fused; f && f->theirs; f++) {
        char *theirs;
        int64_t first = fused_rows(b, f, want, rows, &theirs);
        bool there = first >= 0 && find(b, theirs, o);
        o->first = first;
        free(theirs);
        if (there) return true;
    }
    o->first = 0;
    return false;
}

static chi_status find_origin(struct bring *b, int64_t i)
{
    const struct model_tensor *want = &b->plan->tensor[i];
    struct origin *o = &b->origin[i];
    int64_t rows = want->shape[0];
    char *name;
    bool there = find_alias(b, want->name, o, &name) || find_fused(b, want->name, o, &rows);
    chi_status s = CHI_OK;
    if (!there) {
        o->ones = b->layout.ones && spec_matches(b->layout.ones, want->name);
        if (!o->ones)
            s = fail(CHI_EDATA, "%s has no tensor %s, which would become %s", b->request->subject,
                     name ? name : want->name, want->name);
    } else {
        b->used[o->file][o->tensor] = true;
        s = check_shape(b, o, want, rows);
    }
    free(name);
    return s;
}

static bool ignored(const struct import_request *q, const char *name)
{
    for (int i = 0; i < q->n_ignore; i++)
        if (spec_matches(q->ignore[i], name)) return true;
    return false;
}

/* A tied head may lie there once more: the same numbers                                                            */
static bool is_tied_head(const struct bring *b, const struct st_tensor *t)
{
    const struct st_tensor *e = st_at(b->file[b->origin[0].file], b->origin[0].tensor);
    return b->spec->model.tie_word_embeddings && !strcmp(t->name, "lm_head.weight") && t->dtype == e->dtype
        && t->bytes == e->bytes && !memcmp(t->data, e->data, (size_t)t->bytes);
}

static chi_status check_unused(const struct bring *b)
{
    enum { NAMED = 8 };
    const struct st_tensor *t;
    char *text = NULL;
    size_t length;
    int64_t n = 0;
    FILE *f = open_memstream(&text, &length);
    if (!f) return fail(CHI_ENOMEM, "no memory for a list of names");
    for (int64_t k = 0; k < b->n_file; k++)
        for (int64_t i = 0; (t = st_at(b->file[k], i)); i++) {
            if (b->used[k][i] || is_tied_head(b, t) || ignored(b->request, t->name)) continue;
            if (n++ < NAMED) fprintf(f, "%s%s", n == 1 ? "" : ", ", t->name);
        }
    if (n > NAMED) fprintf(f, " and %lld more", (long long)(n - NAMED));
    fclose(f);
    chi_status s = !n ? CHI_OK
                      : fail(CHI_EDATA,
                             "%s: nobody knows what these tensors do, and the model would be another "
                             "without them: %s (--ignore NAME leaves one out)",
                             b->request->subject, text);
    free(text);
    return s;
}

/* ---- values -------------------------------------------------------------------------------------------------- */

static chi_status check_values(const struct st_file *f, const struct st_tensor *t, const float *w, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(w[i]))
            return fail(CHI_EDATA, "%s: tensor %s holds a value that is not finite", st_path(f), t->name);
    return CHI_OK;
}

/* For ckpt_save_from(): the values of a tensor of the plan                                                         */
static chi_status give(void *arg, int64_t i, const float **values, float **own)
{
    const struct bring *b = arg;
    const struct origin *o = &b->origin[i];
    int64_t n = b->plan->tensor[i].n;
    *own = NULL;
    TRY(signals_stop());
    if (o->ones) {
        if (!(*own = mem_take((size_t)n * sizeof **own, "a tensor of ones"))) return CHI_ENOMEM;
        for (int64_t j = 0; j < n; j++) (*own)[j] = 1;
        *values = *own;
        return CHI_OK;
    }
    const struct st_file *f = b->file[o->file];
    const struct st_tensor *t = st_at(f, o->tensor);
    TRY(st_floats(f, t, values, own));
    *values += o->first * (n / b->plan->tensor[i].shape[0]);
    chi_status s = check_values(f, t, *values, n);
    if (s != CHI_OK) mem_free(*own);
    return s;
}

/* ---- the run ------------------------------------------------------------------------------------------- */

static chi_status fill_run(struct bring *b, const char *folder)
{
    static char name[] = "chimera", verb[] = "import";
    char *argv[] = { name, verb, (char *)(uintptr_t)b->request->subject, NULL };
    struct ckpt_source from = { give, b };
    struct ckpt_meta meta = { .vocabulary = b->vocabulary };
    struct run *r;
    TRY(run_open(&r, folder, b->spec->config, false, 3, argv));
    chi_status s = run_write_env(r, b->spec, 0);
    if (s == CHI_OK) s = ckpt_save_from(r, b->plan, &from, &meta);
    if (s == CHI_OK) s = run_status(r, "done", "imported");
    run_close(r);
    return s;
}

static bool begins_with(const char *folder, const char *name, const char *start)
{
    char *path = fs_join(folder, name);
    bool yes = !fs_exists(path) || fs_begins(path, start);
    free(path);
    return yes;
}

/* Did an import make this folder, and nothing but imports?  It holds what a run holds, and no step was taken     */
static bool is_leftover(const char *folder)
{
    static const char *const names[] = { "lock", "ckpt", "metrics.jsonl", "samples.jsonl", "config.ini", "command.txt",
                                         "log.txt", "env.json", "status.json" };
    char **entry = NULL;
    int64_t n = 0;
    if (!fs_is_dir(folder) || fs_entries(folder, &entry, &n) != CHI_OK) return false;
    bool all = true;
    for (int64_t i = 0; i < n; i++) {
        size_t m = strlen(entry[i]);
        if (m > 4 && !strcmp(entry[i] + m - 4, ".tmp")) entry[i][m - 4] = 0;
        bool known = false;
        for (int64_t k = 0; k < COUNT(names); k++) known |= !strcmp(entry[i], names[k]);
        all &= known;
    }
    fs_list_free(entry, n);
    char *metrics = fs_join(folder, "metrics.jsonl");
    struct stat st;
    all &= stat(metrics, &st) < 0 || st.st_size == 0;
    free(metrics);
    return all && begins_with(folder, "command.txt", "chimera import");
}

/* What an import left that was killed goes; its lock went with it                                                 */
static chi_status clear_leftover(const char *tmp, const char *out)
{
    if (!fs_exists(tmp)) return CHI_OK;
    if (!is_leftover(tmp)) return fail(CHI_ECONF, "%s is in the way, and no import left it: give another name with -o", tmp);
    char *path = fs_join(tmp, "lock");
    int fd = open(path, O_RDWR | O_CLOEXEC);
    free(path);
    bool taken = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
    chi_status s = taken ? fail(CHI_ECONF, "%s is being written by another process: wait until it ends, or give another name "
                                "with -o", out) : fs_remove_tree(tmp);
    if (fd >= 0) close(fd);
    return s;
}

/* A run without its checkpoint would be trained from random weights: the folder gets its name when all is there   */
static chi_status write_run(struct bring *b)
{
    size_t n = strlen(b->request->out);
    while (n > 1 && b->request->out[n - 1] == '/') n--;
    char *out = xprintf("%.*s", (int)n, b->request->out), *tmp = xprintf("%s.tmp", out);
    chi_status s = clear_leftover(tmp, out);
    if (s == CHI_OK) {
        s = fill_run(b, tmp);
        if (s == CHI_OK) s = fs_publish(tmp, out);
        char *why = s == CHI_OK ? NULL : xstrdup(fail_text());
        if (s != CHI_OK && fs_remove_tree(tmp) != CHI_OK) warn("%s", fail_text());
        if (why) fail(s, "%s", why);
        free(why);
    }
    free(out);
    free(tmp);
    return s;
}

static void say(const struct bring *b, FILE *report)
{
    for (int64_t i = 0; i < b->plan->n_tensor; i++) {
        const struct origin *o = &b->origin[i];
        const struct st_tensor *t = o->ones ? NULL : st_at(b->file[o->file], o->tensor);
        char *shape = t ? shape_text(t->dim, t->n_dim) : xstrdup("");
        if (!t) fprintf(report, "%-32s all 1\n", b->plan->tensor[i].name);
        else fprintf(report, "%-32s %s %s %s%s\n", b->plan->tensor[i].name, t->name, shape, st_dtype_name(t->dtype),
                     o->first || t->n != b->plan->tensor[i].n ? " in part" : "");
        free(shape);
    }
}

/* All that follows when there is a configuration, which is taken */
static chi_status bring_in(struct bring *b, struct config *c, FILE *report)
{
    TRY(spec_open(&b->spec, c, SPEC_MODEL | SPEC_TOKENIZER));
    TRY(mode_refuse(b->spec));
    TRY(model_open(&b->plan, b->spec, MODEL_PLAN, 1, 1));
    b->origin = xcalloc((size_t)b->plan->n_tensor, sizeof *b->origin);
    for (int64_t i = 0; i < b->plan->n_tensor; i++) TRY(find_origin(b, i));
    TRY(check_unused(b));
    TRY(write_run(b));
    say(b, report);
    return CHI_OK;
}

static chi_status bring_close(struct bring *b, chi_status s)
{
    char *why = s == CHI_OK ? NULL : xstrdup(fail_text());
    model_close(b->plan);
    spec_close(b->spec);
    for (int64_t i = 0; i < b->n_file; i++) {
        st_close(b->file[i]);
        free(b->used[i]);
    }
    free(b->file);
    free(b->used);
    free(b->origin);
    if (why) fail(s, "%s", why);
    free(why);
    return s;
}

/* The overrides and run.dir = OUT */
static char **with_dir(const struct import_request *q, char **dir, int *n)
{
    char **all = xcalloc((size_t)q->n_override + 1, sizeof *all);
    for (int i = 0; i < q->n_override; i++) all[i] = q->override[i];
    all[q->n_override] = *dir = xprintf("run.dir=%s", q->out);
    *n = q->n_override + 1;
    return all;
}

/* ---- masters ------------------------------------------------------------------------------------------- */

static chi_status masters(struct bring *b, FILE *report)
{
    const struct import_request *q = b->request;
    struct config *c;
    char *dir;
    int n;
    TRY(add_file(b, q->subject));
    const char *text = st_meta(b->file[0], "config"), *format = st_meta(b->file[0], "format");
    bool ours = format && !strncmp(format, "chimera.", 8);
    if (ours && strcmp(format, EXPORT_MASTERS) && strcmp(format, EXPORT_FLOATS))
        return fail(CHI_EDATA, "%s has format \"%s\", this program imports \"%s\" and \"%s\"", q->subject, format,
                    EXPORT_MASTERS, EXPORT_FLOATS);
    if (ours && !q->config) {
        if (!st_sealed(b->file[0]))
            return fail(CHI_EDATA, "%s: its header has lost its XXH3: damaged, or written anew; --config FILE.ini takes "
                        "its tensors as they are", q->subject);
        TRY(carry_check(b->file[0]));
    }
    const char *manifest = ours ? st_meta(b->file[0], "manifest") : NULL;
    if (manifest) TRY(manifest_text_vocabulary(q->subject, manifest, &b->vocabulary));
    if (!q->config && !text)
        return fail(
            CHI_ECONF,
            "%s says nothing of its configuration: --config FILE.ini gives one, a folder with config.json "
            "another",
            q->subject);
    char **all = with_dir(q, &dir, &n);
    chi_status s = q->config ? config_load(&c, q->config, all, n) : config_load_text(&c, q->subject, text, all, n);
    free(all);
    free(dir);
    return s == CHI_OK ? bring_in(b, c, report) : s;
}

chi_status import_masters(const struct import_request *q, FILE *report)
{
    struct bring b = { .request = q };
    return bring_close(&b, masters(&b, report));
}

/* ---- checkpoints of others ----------------------------------------------------------------------------- */

static chi_status read_json(const char *path, int depth, cJSON **j)
{
    unsigned char *text;
    int64_t n;
    TRY(fs_read(path, &text, &n));
    chi_status s = json_parse(path, (const char *)text, n, depth, j);
    mem_free(text);
    if (s == CHI_OK && !cJSON_IsObject(*j)) s = fail(CHI_EDATA, "%s is no JSON object", path);
    return s;
}

/* {"weight_map": {"TENSOR": "FILE", ...}}: each file once, and each tensor in its file */
static chi_status read_index(struct bring *b, const char *path, const cJSON *j)
{
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(j, "weight_map");
    if (!cJSON_IsObject(map)) return fail(CHI_EDATA, "%s has no \"weight_map\" of tensors and files", path);
    for (const cJSON *c = map->child; c; c = c->next) {
        const char *name = cJSON_GetStringValue(c);
        int64_t f = 0;
        if (!name || !*name || *name == '.' || strchr(name, '/'))
            return fail(CHI_EDATA, "%s: the file of %s is \"%s\", wanted is the name of a file beside it", path,
                        c->string, name ? name : "no text");
        char *full = fs_join(b->request->subject, name);
        while (f < b->n_file && strcmp(st_path(b->file[f]), full)) f++;
        chi_status s = f < b->n_file ? CHI_OK
            : !fs_exists(full) ? fail(CHI_EDATA, "%s: tensor %s lies in %s, which is missing", path, c->string, full)
            : f < FILES_MAX ? add_file(b, full) : fail(CHI_EDATA, "%s names more than %d files", path, FILES_MAX);
        free(full);
        TRY(s);
        if (!st_find(b->file[f], c->string))
            return fail(CHI_EDATA, "%s: %s has no tensor %s", path, st_path(b->file[f]), c->string);
    }
    return CHI_OK;
}

/* model_0.safetensors, model_1.safetensors, ...: those of NX-AI's own program                                     */
static chi_status add_numbered(struct bring *b)
{
    chi_status s = CHI_OK;
    for (int64_t n = 0; s == CHI_OK && n < FILES_MAX; n++) {
        char *path = xprintf("%s/model_%lld.safetensors", b->request->subject, (long long)n);
        bool there = fs_exists(path);
        if (there) s = add_file(b, path);
        free(path);
        if (!there) break;
    }
    return s;
}

static chi_status open_files(struct bring *b, bool native)
{
    const char *folder = b->request->subject;
    char *one = fs_join(folder, "model.safetensors"), *index = fs_join(folder, "model.safetensors.index.json");
    cJSON *j = NULL;
    chi_status s;
    if (fs_exists(one))                     /* first, as those programs do                                       */
        s = add_file(b, one);
    else if (native) {
        s = add_numbered(b);
        if (s == CHI_OK && !b->n_file)
            s = fail(CHI_EDATA, "%s has neither model.safetensors nor model_0.safetensors", folder);
    } else if (fs_exists(index)) {
        s = read_json(index, 4, &j);
        if (s == CHI_OK) s = read_index(b, index, j);
    } else
        s = fail(
            CHI_EDATA,
            "%s has neither model.safetensors nor model.safetensors.index.json (files of pickles are not read)",
            folder);
    cJSON_Delete(j);
    free(one);
    free(index);
    return s;
}

static chi_status read_yaml(const char *path, cJSON **j)
{
    unsigned char *text;
    int64_t n;
    TRY(fs_read(path, &text, &n));
    chi_status s = yaml_flat(path, (const char *)text, n, j);
    mem_free(text);
    return s;
}

/* "int8" of "linear.quantizer=int8" on the command line                                                            */
static const char *asked_quantizer(const struct import_request *q)
{
    static const char key[] = "linear.quantizer=";
    const char *name = "f32";
    for (int i = 0; i < q->n_override; i++)
        if (!strncmp(q->override[i], key, strlen(key))) name = q->override[i] + strlen(key);
    return name;
}

/* The section of the head: a token reads all of it, so it goes with the layers, but never below int8, which rounding
 * a trained one bears                                                                                              */
static char *with_head(const struct import_request *q, char *ini)
{
    const char *name = asked_quantizer(q);
    bool floats = !strcmp(name, "f32") || !strcmp(name, "bf16"), tied = strstr(ini, "tie_word_embeddings = yes");
    char *all = xprintf("%s[linear.%s]\nquantizer = %s\n", ini, tied ? "embed" : "lm_head", floats ? name : "int8");
    free(ini);
    return all;
}

static chi_status checkpoint(struct bring *b, FILE *report)
{
    const struct import_request *q = b->request;
    char *path = fs_join(q->subject, "config.json"), *ini = NULL, *dir;
    bool native = !fs_exists(path);
    cJSON *j = NULL;
    struct config *c;
    int n;
    if (native) {
        free(path);
        path = fs_join(q->subject, "config.yaml");
    }
    chi_status s = native ? read_yaml(path, &j) : read_json(path, 8, &j);
    if (s == CHI_OK) s = checkpoint_config(q, path, j, native, &b->layout, &ini);
    if (s == CHI_OK) s = open_files(b, native);
    cJSON_Delete(j);
    if (s == CHI_OK) {
        char **all = with_dir(q, &dir, &n);
        ini = with_head(q, ini);
        s = config_load_text(&c, path, ini, all, n);
        free(all);
        free(dir);
    }
    free(path);
    free(ini);
    return s == CHI_OK ? bring_in(b, c, report) : s;
}

chi_status import_checkpoint(const struct import_request *q, FILE *report)
{
    struct bring b = { .request = q };
    return bring_close(&b, checkpoint(&b, report));
}
