/* ckpt.c - checkpoints: a folder that is whole or absent.
 *
 *     ckpt/NNNNNNNNNN.tmp/  model.safetensors, optimizer.safetensors, config.ini, each
 *                           synced; MANIFEST.json with sizes and XXH3 of them last;
 *     rename to ckpt/NNNNNNNNNN, fsync of ckpt/; only then old ones go.
 *
 * The rename is the one instant at which the new state starts to count.  Whoever reads
 * trusts nothing but a manifest whose files all have their size and hash.        */
#include "run.h"
#include "ckpt.h"
#include "core.h"
#include "fs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- writing: the files ------------------------------------------------------ */

static int dims(const struct model_tensor *t)
{
    int n = 0;
    while (n < 4 && t->shape[n]) n++;
    return n;
}

static chi_status put_from(struct st_writer *w, const struct ckpt_source *from, int64_t i, int64_t n)
{
    const float *values;
    float *own;
    TRY(from->values(from->arg, i, &values, &own));
    chi_status s = st_write(w, values, n * 4);
    mem_free(own);
    return s;
}

/* Tensors by their full names (moment -1), or one moment after the other          */
static chi_status put_tensors(struct st_writer *w, const struct model *m, const struct ckpt_moments *mo,
                              const struct ckpt_source *from)
{
    const struct model_tensor *t;
    float *params = model_params((struct model *)(uintptr_t)m);
    int32_t n = mo ? mo->n : 1;
    for (int32_t k = 0; k < n; k++)
        for (int64_t i = 0; (t = model_tensor(m, i)); i++) {
            char *name = mo ? xprintf("%s.%s", mo->name[k], t->name) : xstrdup(t->name);
            st_add(w, name, ST_F32, dims(t), t->shape);
            free(name);
        }
    TRY(st_begin(w));
    for (int32_t k = 0; k < n; k++)
        for (int64_t i = 0; (t = model_tensor(m, i)); i++) {
            if (from) {
                TRY(put_from(w, from, i, t->n));
                continue;
            }
            if (!t->w) return fail(CHI_EBUG, "tensor %s: a model opened for inference cannot be saved", t->name);
            TRY(st_write(w, mo ? mo->block + k * model_param_floats(m) + (t->w - params) : t->w, t->n * 4));
        }
    return CHI_OK;
}

struct saving {
    const struct model *m;
    const struct ckpt_moments *moments;
    const struct ckpt_source *source;   /* of the values; NULL: the model's own    */
    const struct ckpt_meta *meta;
    const char *folder;                 /* the .tmp one                            */
    cJSON *files;                       /* of the manifest                         */
};

static chi_status save_tensors(FILE *f, const struct saving *v, const struct ckpt_moments *mo)
{
    char text[32];
    struct st_writer *w = st_create(f);
    snprintf(text, sizeof text, "%lld", (long long)v->meta->step);
    st_put_meta(w, "chimera.checkpoint", "1");
    st_put_meta(w, "step", text);
    chi_status s = put_tensors(w, v->m, mo, v->source);
    char *why = s == CHI_OK ? NULL : xstrdup(fail_text());
    chi_status end = st_finish(w);                      /* misses the data that s kept from it */
    if (why) fail(s, "%s", why);
    free(why);
    return s != CHI_OK ? s : end;
}

enum { FILE_MODEL, FILE_OPTIMIZER, FILE_CONFIG };
static const char *const file_name[] = { "model.safetensors", "optimizer.safetensors", "config.ini" };

/* Writes one file, synced, and adds its line to the manifest                      */
static chi_status save_file(struct saving *v, int which)
{
    struct fs_out o;
    uint64_t hash = 0;
    char hex[20], *path = fs_join(v->folder, file_name[which]);
    chi_status s = fs_out_open(&o, path);
    if (s != CHI_OK) goto out;
    if (which == FILE_CONFIG) config_print(model_spec(v->m)->config, o.f, false);
    else s = save_tensors(o.f, v, which == FILE_OPTIMIZER ? v->moments : NULL);
    chi_status end = fs_out_close(&o, &hash);
    if (end != CHI_OK || s != CHI_OK) {
        s = end != CHI_OK ? end : s;
        goto out;
    }
    cJSON *j = cJSON_CreateObject();
    snprintf(hex, sizeof hex, "%016" PRIx64, hash);
    cJSON_AddStringToObject(j, "name", file_name[which]);
    cJSON_AddNumberToObject(j, "bytes", (double)o.bytes);
    cJSON_AddStringToObject(j, "xxh3", hex);
    cJSON_AddItemToArray(v->files, j);
out:
    free(path);
    return s;
}

static chi_status save_manifest(struct saving *v)
{
    cJSON *j = manifest_new(model_spec(v->m), v->meta);
    cJSON_AddItemToObject(j, "files", v->files);
    v->files = NULL;
    chi_status s = manifest_seal(j);
    char *text = cJSON_Print(j), *path = fs_join(v->folder, "MANIFEST.json");
    struct fs_out o;
    if (s == CHI_OK) s = text ? fs_out_open(&o, path) : fail(CHI_ENOMEM, "no memory for the text of %s", path);
    if (s == CHI_OK) {
        fprintf(o.f, "%s\n", text);
        s = fs_out_close(&o, NULL);
    }
    cJSON_Delete(j);
    cJSON_free(text);
    free(path);
    return s;
}

static chi_status write_folder(struct saving *v)
{
    TRY(fs_remove_tree(v->folder));
    TRY(fs_mkdirs(v->folder));
    TRY(save_file(v, FILE_MODEL));
    if (v->moments && v->moments->n) TRY(save_file(v, FILE_OPTIMIZER));
    TRY(save_file(v, FILE_CONFIG));
    TRY(save_manifest(v));
    return fs_sync_dir(v->folder);
}

/* ---- writing: the moment when it counts --------------------------------------- */

/* The final name may be taken: by a damaged checkpoint that was skipped, or by the same
 * step saved before.  Exchanging the two names keeps a whole one there at any time.  */
static chi_status publish(const char *tmp, const char *final)
{
    if (rename(tmp, final) == 0) return CHI_OK;
    if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR) return fs_fail("rename to", final);
#ifdef RENAME_EXCHANGE
    if (renameat2(AT_FDCWD, tmp, AT_FDCWD, final, RENAME_EXCHANGE) == 0) return CHI_OK;
    if (errno != EINVAL && errno != ENOSYS) return fs_fail("rename to", final);
#endif
    char *old = xprintf("%s.old.tmp", final);          /* a file system without exchange */
    chi_status s = fs_remove_tree(old);
    if (s == CHI_OK && rename(final, old) < 0) s = fs_fail("rename", final);
    if (s == CHI_OK && rename(tmp, final) < 0) {
        s = fs_fail("rename to", final);
        if (rename(old, final) < 0) warn("%s now lies in %s", final, old);
    }
    free(old);
    return s;
}

static chi_status check_room(const char *ckpt, const struct model *m, const struct ckpt_moments *mo)
{
    char need_text[32], free_text[32];
    int64_t need = 1 << 20, have = fs_free_bytes(ckpt);
    const struct model_tensor *t;
    for (int64_t i = 0; (t = model_tensor(m, i)); i++) need += t->n * 4 * (1 + (mo ? mo->n : 0));
    if (have < 0 || have >= need) return CHI_OK;
    human_bytes(need_text, need);
    human_bytes(free_text, have);
    return fail(CHI_ENOMEM, "a checkpoint needs %s, the disk of %s has %s free: free some space there, or lower"
                " train.keep; the checkpoints that are there stay as they are", need_text, ckpt, free_text);
}

void ckpt_sweep(const char *run)
{
    char **name, *ckpt = fs_join(run, "ckpt");
    int64_t n;
    if (fs_is_dir(ckpt) && fs_entries(ckpt, &name, &n) == CHI_OK) {
        for (int64_t i = 0; i < n; i++) {
            size_t len = strlen(name[i]);
            if (len < 4 || strcmp(name[i] + len - 4, ".tmp")) continue;
            char *path = fs_join(ckpt, name[i]);
            if (fs_remove_tree(path) != CHI_OK) warn("%s", fail_text());
            free(path);
        }
        fs_list_free(name, n);
    }
    free(ckpt);
}

/* The keep newest up to step stay.  Later steps belong to a future that was given up
 * when a damaged checkpoint was skipped: they go if they are damaged.  A folder is
 * renamed before it is emptied, so that no half of one is ever seen.              */
static void remove_old(const char *run, int64_t step, int64_t keep)
{
    int64_t *all, n = ckpt_steps(run, &all), kept = 0;
    for (int64_t i = 0; i < n; i++) {
        char *path = ckpt_path(run, all[i]), *gone = xprintf("%s.old.tmp", path);
        bool away = all[i] > step ? ckpt_verify(path) == CHI_EDATA : keep > 0 && ++kept > keep;
        if (away && (rename(path, gone) < 0 || fs_remove_tree(gone) != CHI_OK))
            warn("the old checkpoint %s could not be removed: %s", path, strerror(errno));
        free(path);
        free(gone);
    }
    free(all);
}

static chi_status save(struct run *r, const struct model *m, const struct ckpt_moments *moments,
                       const struct ckpt_source *source, const struct ckpt_meta *meta, int64_t keep)
{
    char *ckpt = fs_join(run_dir(r), "ckpt"), *final = ckpt_path(run_dir(r), meta->step);
    char *tmp = xprintf("%s.tmp", final);
    struct saving v = { m, moments, source, meta, tmp, cJSON_CreateArray() };
    chi_status s = fs_mkdirs(ckpt);
    if (s == CHI_OK) {
        ckpt_sweep(run_dir(r));
        s = check_room(ckpt, m, moments);
    }
    if (s == CHI_OK) s = run_sync(r);
    if (s == CHI_OK) s = write_folder(&v);
    if (s == CHI_OK) s = publish(tmp, final);
    if (s == CHI_OK) s = fs_sync_dir(ckpt);
    char *why = s == CHI_OK ? NULL : xstrdup(fail_text());
    if (s == CHI_OK) remove_old(run_dir(r), meta->step, keep);
    ckpt_sweep(run_dir(r));             /* a failed one, or the old of this step    */
    if (why) fail(s, "%s", why);
    free(why);
    cJSON_Delete(v.files);
    free(ckpt);
    free(final);
    free(tmp);
    return s;
}

chi_status ckpt_save(struct run *r, const struct model *m, const struct ckpt_moments *moments,
                     const struct ckpt_meta *meta, int64_t keep)
{
    return save(r, m, moments, NULL, meta, keep);
}

chi_status ckpt_save_from(struct run *r, const struct model *plan, const struct ckpt_source *source,
                          const struct ckpt_meta *meta)
{
    return save(r, plan, NULL, source, meta, 0);
}

/* ---- loading ------------------------------------------------------------------ */

static chi_status load_moment(const struct st_file *f, const struct model *m, const struct ckpt_moments *mo,
                              int32_t k, const struct model_tensor *t)
{
    char *name = xprintf("%s.%s", mo->name[k], t->name);
    const struct st_tensor *x = st_find(f, name);
    chi_status s = CHI_OK;
    float *params = model_params((struct model *)(uintptr_t)m);
    if (!x) s = fail(CHI_EDATA, "%s: tensor \"%s\" is missing", st_path(f), name);
    else if (x->dtype != ST_F32 || x->n != t->n || x->n_dim != dims(t)
             || memcmp(x->dim, t->shape, (size_t)x->n_dim * sizeof *x->dim))
        s = fail(CHI_EDATA, "%s: tensor \"%s\" has another type or shape than the model's", st_path(f), name);
    else memcpy(mo->block + k * model_param_floats(m) + (t->w - params), x->data, (size_t)x->bytes);
    free(name);
    return s;
}

static chi_status load_moments(const char *path, const struct model *m, const struct ckpt_moments *mo)
{
    const struct model_tensor *t;
    struct st_file *f = NULL;
    char *name = fs_join(path, file_name[FILE_OPTIMIZER]);
    chi_status s = fs_exists(name) ? st_open(&f, name)
        : fail(CHI_EDATA, "%s has no optimizer state: training cannot go on from it", path);
    int64_t count = 0;
    for (int32_t k = 0; s == CHI_OK && k < mo->n; k++)
        for (int64_t i = 0; s == CHI_OK && (t = model_tensor(m, i)); i++, count++)
            s = load_moment(f, m, mo, k, t);
    if (s == CHI_OK && st_at(f, count))
        s = fail(CHI_EDATA, "%s holds more tensors than the optimizer has: another optimizer wrote it", name);
    st_close(f);
    free(name);
    return s;
}

static bool has_moments(const char *path)
{
    char *name = fs_join(path, file_name[FILE_OPTIMIZER]);
    bool has = fs_exists(name);
    free(name);
    return has;
}

/* Of a checkpoint at step 0, which was imported: training begins                   */
static chi_status no_moments(const struct model *m, const struct ckpt_moments *mo)
{
    memset(mo->block, 0, (size_t)(mo->n * model_param_floats(m)) * sizeof *mo->block);
    return CHI_OK;
}

chi_status ckpt_weights(const char *path, const struct spec *spec, bool training, struct ckpt_meta *meta,
                        struct st_file **f)
{
    cJSON *manifest;
    TRY(manifest_read(path, &manifest));
    chi_status s = manifest_meta(path, manifest, meta);
    if (s == CHI_OK) s = manifest_fits(path, manifest, spec->config, spec, training && meta->step);
    cJSON_Delete(manifest);
    TRY(s);
    char *name = fs_join(path, file_name[FILE_MODEL]);
    s = st_open(f, name);
    free(name);
    return s;
}

chi_status ckpt_load(const char *path, struct model *m, const struct ckpt_moments *moments,
                     struct ckpt_meta *meta)
{
    bool training = moments && moments->n;
    struct st_file *f;
    TRY(ckpt_weights(path, model_spec(m), training, meta, &f));
    chi_status s = model_load(m, f);
    st_close(f);
    if (s == CHI_OK && training) s = meta->step || has_moments(path) ? load_moments(path, m, moments)
        : no_moments(m, moments);
    return s;
}
