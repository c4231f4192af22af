/* ckpt_find.c - MANIFEST.json, and the newest checkpoint that is whole.
 *
 * The manifest is JSON for people and scripts; 64-bit hashes are hex strings, since
 * JSON numbers are doubles.  Comparing it with a configuration reports every difference
 * at once, stored value beside configured value.                                  */
#include "ckpt.h"
#include "core.h"
#include "fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FORMAT = 1, MANIFEST_MAX = 16 << 20 };

/* ---- components of a spec ------------------------------------------------------ */

static const char *const kinds[CHI_KINDS] = {
    [CHI_LAYER] = "layer", [CHI_BACKEND] = "backend", [CHI_QUANTIZER] = "quantizer",
    [CHI_ENCODING] = "encoding", [CHI_OBJECTIVE] = "objective", [CHI_OPTIMIZER] = "optimizer",
    [CHI_TOKENIZER] = "tokenizer", [CHI_TASK] = "task", [CHI_LOOP] = "loop",
    [CHI_ADAPTER] = "adapter"
};

/* The i-th part of a spec, or NULL after the last                                 */
static const struct part *part_at(const struct spec *s, int64_t i)
{
    int64_t layers = s->model.num_hidden_layers;
    if (i < layers) return &s->mixer[i];
    if ((i -= layers) < layers) return &s->ffn[i];
    if ((i -= layers) < s->n_rule) return &s->rule[i].quantizer;
    if ((i -= s->n_rule) < s->n_adapter) return s->adapter[i];
    i -= s->n_adapter;
    const struct part *rest[] = { &s->loop.part, &s->optimizer, &s->objective, &s->task, &s->tokenizer };
    return i < COUNT(rest) ? rest[i] : NULL;
}

static cJSON *find_part(const cJSON *list, const char *kind, const char *section)
{
    for (cJSON *c = list ? list->child : NULL; c; c = c->next) {
        const char *k = json_text(c, "kind"), *s = json_text(c, "section");
        if (k && s && !strcmp(k, kind) && !strcmp(s, section)) return c;
    }
    return NULL;
}

static cJSON *components(const struct spec *s)
{
    cJSON *list = cJSON_CreateArray();
    const struct part *p;
    for (int64_t i = 0; (p = part_at(s, i)); i++) {
        const struct chi_component *c = p->component;
        const char *section = p->section ? p->section : "";
        if (!c || find_part(list, kinds[c->kind], section)) continue;
        cJSON *j = cJSON_CreateObject();
        cJSON_AddStringToObject(j, "kind", kinds[c->kind]);
        cJSON_AddStringToObject(j, "name", c->name);
        cJSON_AddNumberToObject(j, "revision", c->revision);
        cJSON_AddStringToObject(j, "section", section);
        cJSON_AddItemToArray(list, j);
    }
    return list;
}

/* "section.key = value" lines as an array of strings                              */
static cJSON *shape_lines(const struct config *c)
{
    cJSON *list = cJSON_CreateArray();
    char *text = config_shape_text(c), *rest = text, *line;
    while ((line = strsep(&rest, "\n")))
        if (*line) cJSON_AddItemToArray(list, cJSON_CreateString(line));
    free(text);
    return list;
}

/* ---- the manifest -------------------------------------------------------------- */

static const struct { const char *name; size_t offset; } numbers[] = {
    { "step", offsetof(struct ckpt_meta, step) }, { "tokens", offsetof(struct ckpt_meta, tokens) },
    { "epoch", offsetof(struct ckpt_meta, epoch) }, { "position", offsetof(struct ckpt_meta, position) },
    { "metrics_bytes", offsetof(struct ckpt_meta, metrics_bytes) },
    { "samples_bytes", offsetof(struct ckpt_meta, samples_bytes) },
    { "wall_ms", offsetof(struct ckpt_meta, wall_ms) }
};

cJSON *manifest_new(const struct spec *s, const struct ckpt_meta *meta)
{
    char text[24];
    cJSON *j = cJSON_CreateObject();
    cJSON_AddNumberToObject(j, "format", FORMAT);
    for (int64_t i = 0; i < COUNT(numbers); i++)
        cJSON_AddNumberToObject(j, numbers[i].name,
                                (double)*(const int64_t *)(const void *)((const char *)meta + numbers[i].offset));
    snprintf(text, sizeof text, "%016" PRIx64, meta->data_hash);
    cJSON_AddStringToObject(j, "data_hash", text);
    snprintf(text, sizeof text, "%016" PRIx64, meta->vocabulary);
    if (meta->vocabulary) cJSON_AddStringToObject(j, "vocabulary", text);
    snprintf(text, sizeof text, "%d.%d", CHI_ABI_MAJOR, CHI_ABI_MINOR);
    cJSON_AddStringToObject(j, "abi", text);
    cJSON_AddStringToObject(j, "version", CHIMERA_VERSION);
    cJSON_AddItemToObject(j, "components", components(s));
    cJSON_AddItemToObject(j, "shape", shape_lines(s->config));
    return j;
}

/* XXH3 of the manifest printed without blanks and without its own "xxh3", as hex:
 * a flipped bit in a number of the manifest is damage like any other.             */
static chi_status seal_of(cJSON *j, char hex[20])
{
    cJSON *own = cJSON_DetachItemFromObjectCaseSensitive(j, "xxh3");
    char *text = cJSON_PrintUnformatted(j);
    if (own) cJSON_AddItemToObject(j, "xxh3", own);
    if (!text) return fail(CHI_ENOMEM, "no memory for the text of a manifest");
    snprintf(hex, 20, "%016" PRIx64, xxh3(text, strlen(text)));
    cJSON_free(text);
    return CHI_OK;
}

chi_status manifest_seal(cJSON *j)
{
    char hex[20];
    TRY(seal_of(j, hex));
    cJSON_AddStringToObject(j, "xxh3", hex);
    return CHI_OK;
}

static chi_status check_manifest(const char *path, cJSON *j)
{
    char hex[20];
    const char *seal = json_text(j, "xxh3");
    int64_t format, bytes;
    const cJSON *files = cJSON_GetObjectItemCaseSensitive(j, "files"), *c;
    if (!json_int(cJSON_GetObjectItemCaseSensitive(j, "format"), &format))
        return fail(CHI_EDATA, "%s: no \"format\": this is no checkpoint manifest", path);
    if (format != FORMAT)
        return fail(CHI_EDATA, "%s: format %lld, this program reads %d: use the version that wrote it",
                    path, (long long)format, FORMAT);
    TRY(seal_of(j, hex));
    if (!seal || strcmp(seal, hex))
        return fail(CHI_EDATA, "%s is damaged: its content gives XXH3 %s, it says %s", path, hex,
                    seal ? seal : "none");
    if (!cJSON_IsArray(files) || !files->child || !cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(j, "shape"))
        || !cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(j, "components")))
        return fail(CHI_EDATA, "%s: \"files\", \"shape\" or \"components\" is missing", path);
    for (c = files->child; c; c = c->next) {
        const char *name = json_text(c, "name"), *hash = json_text(c, "xxh3");
        if (!name || !*name || strchr(name, '/') || !hash || strlen(hash) != 16
            || !json_int(cJSON_GetObjectItemCaseSensitive(c, "bytes"), &bytes))
            return fail(CHI_EDATA, "%s: an entry of \"files\" is not {name, bytes, xxh3}", path);
    }
    return CHI_OK;
}

chi_status manifest_read(const char *folder, cJSON **out)
{
    struct stat st;
    unsigned char *text = NULL;
    int64_t n = 0;
    char *path = fs_join(folder, "MANIFEST.json");
    *out = NULL;
    chi_status s = CHI_OK;
    if (stat(path, &st) < 0 && errno == ENOENT)
        s = fail(CHI_EDATA, "%s has no MANIFEST.json: it is no whole checkpoint", folder);
    else if (st.st_size > MANIFEST_MAX) s = fail(CHI_EDATA, "%s is larger than a manifest can be", path);
    if (s == CHI_OK) s = fs_read(path, &text, &n);
    if (s == CHI_OK) s = json_parse(path, (const char *)text, n, 4, out);
    if (s == CHI_OK) s = check_manifest(path, *out);
    if (s != CHI_OK) {
        cJSON_Delete(*out);
        *out = NULL;
    }
    mem_free(text);
    free(path);
    return s;
}

static bool read_hash(const cJSON *j, const char *key, uint64_t *hash)
{
    const char *text = json_text(j, key);
    char *end = NULL;
    if (text) *hash = strtoull(text, &end, 16);
    return text && strlen(text) == 16 && !*end;
}

/* Older programs wrote none                                                       */
static chi_status vocabulary(const char *name, const cJSON *j, uint64_t *hash)
{
    *hash = 0;
    if (!cJSON_HasObjectItem(j, "vocabulary") || read_hash(j, "vocabulary", hash)) return CHI_OK;
    return fail(CHI_EDATA, "%s: \"vocabulary\" of its manifest is not 16 hex digits", name);
}

chi_status manifest_meta(const char *folder, const cJSON *j, struct ckpt_meta *meta)
{
    *meta = (struct ckpt_meta){ 0 };
    for (int64_t i = 0; i < COUNT(numbers); i++)
        if (!json_int(cJSON_GetObjectItemCaseSensitive(j, numbers[i].name),
                      (int64_t *)(void *)((char *)meta + numbers[i].offset)))
            return fail(CHI_EDATA, "%s/MANIFEST.json: \"%s\" is missing or no integer", folder, numbers[i].name);
    if (!read_hash(j, "data_hash", &meta->data_hash))
        return fail(CHI_EDATA, "%s/MANIFEST.json: \"data_hash\" is not 16 hex digits", folder);
    return vocabulary(folder, j, &meta->vocabulary);
}

chi_status ckpt_read_meta(const char *path, struct ckpt_meta *meta)
{
    cJSON *j;
    TRY(manifest_read(path, &j));
    chi_status s = manifest_meta(path, j, meta);
    cJSON_Delete(j);
    return s;
}

/* ---- does it fit --------------------------------------------------------------- */

/* Key and value of "section.key = value"                                          */
static size_t key_length(const char *line)
{
    const char *eq = strstr(line, " = ");
    return eq ? (size_t)(eq - line) : strlen(line);
}

static const char *line_value(const char *line)
{
    size_t n = key_length(line);
    return line[n] ? line + n + 3 : "";
}

static size_t section_length(const char *line)
{
    size_t n = key_length(line);
    while (n && line[n - 1] != '.') n--;
    return n;
}

/* The line of list with the same first n bytes, and for keys their end, too       */
static const char *same_start(const cJSON *list, const char *line, size_t n, bool key)
{
    for (const cJSON *c = list->child; c; c = c->next) {
        const char *other = cJSON_GetStringValue(c);
        if (other && !strncmp(other, line, n) && (key ? key_length(other) : section_length(other)) == n) return other;
    }
    return NULL;
}

/* Options of sections that only one side has are no difference: a program that only
 * runs a model does not read the sections of training.  Neither is an option that the
 * stored side does not know if it has its default now (config; else NULL): an older
 * program did not have it, and did what the default says.                         */
static void compare_shapes(FILE *f, const cJSON *stored, const cJSON *now, const char *have, const char *want,
                           const struct config *config)
{
    for (const cJSON *c = stored->child; c; c = c->next) {
        const char *line = cJSON_GetStringValue(c), *other;
        if (!line) continue;
        size_t n = key_length(line);
        bool both = same_start(now, line, section_length(line), false);
        other = same_start(now, line, n, true);
        if (other && want && strcmp(line_value(line), line_value(other)))
            fprintf(f, "; %.*s: checkpoint %s, configured %s", (int)n, line, line_value(line), line_value(other));
        else if (!other && both && !(config && config_is_default(config, line)))
            fprintf(f, "; %.*s = %s: only %s", (int)n, line, line_value(line), have);
    }
}

static bool kind_matters(const char *kind, bool training)
{
    return !strcmp(kind, "layer") || !strcmp(kind, "quantizer") || !strcmp(kind, "adapter")
        || !strcmp(kind, "tokenizer")
        || (training && !strcmp(kind, "optimizer"));
}

static void compare_components(FILE *f, const cJSON *stored, const cJSON *now, bool training)
{
    for (const cJSON *c = now->child; c; c = c->next) {
        const char *kind = json_text(c, "kind"), *section = json_text(c, "section"), *name = json_text(c, "name");
        const cJSON *old = find_part(stored, kind, section);
        const char *old_name = json_text(old, "name");
        int64_t have = -1, want = -1;
        if (!kind_matters(kind, training)) continue;
        json_int(cJSON_GetObjectItemCaseSensitive(c, "revision"), &want);
        json_int(cJSON_GetObjectItemCaseSensitive(old, "revision"), &have);
        if (!old_name)
            fprintf(f, "; [%s]: checkpoint has no %s there, configured %s", section, kind, name);
        else if (strcmp(old_name, name) || have != want)
            fprintf(f, "; [%s] %s: checkpoint %s revision %lld, configured %s revision %lld", section, kind,
                    old_name, (long long)have, name, (long long)want);
    }
}

chi_status manifest_fits(const char *folder, const cJSON *j, const struct config *config,
                         const struct spec *spec, bool training)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f) return fail(CHI_ENOMEM, "no memory to compare %s with the configuration", folder);
    cJSON *now = shape_lines(config), *parts = spec ? components(spec) : NULL;
    const cJSON *stored = cJSON_GetObjectItemCaseSensitive(j, "shape");
    compare_shapes(f, stored, now, "in the checkpoint", "", NULL);
    compare_shapes(f, now, stored, "configured", NULL, config);
    if (parts) compare_components(f, cJSON_GetObjectItemCaseSensitive(j, "components"), parts, training);
    bool same = fclose(f) == 0 && n == 0;
    const char *what = text && n > 2 ? text + 2 : "?";
    chi_status s = same ? CHI_OK : fail(CHI_ESHAPE, "%s is of another model: %s", folder, what);
    cJSON_Delete(now);
    cJSON_Delete(parts);
    free(text);
    return s;
}

chi_status manifest_text_fits(const char *name, const char *text, const struct spec *spec)
{
    cJSON *j;
    TRY(json_parse(name, text, (int64_t)strlen(text), 4, &j));
    bool whole = cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(j, "shape"))
              && cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(j, "components"));
    chi_status s = whole ? manifest_fits(name, j, spec->config, spec, false)
                 : fail(CHI_EDATA, "%s: its manifest has no \"components\" or no \"shape\"", name);
    cJSON_Delete(j);
    return s;
}

chi_status manifest_text_vocabulary(const char *name, const char *text, uint64_t *hash)
{
    cJSON *j;
    TRY(json_parse(name, text, (int64_t)strlen(text), 4, &j));
    chi_status s = vocabulary(name, j, hash);
    cJSON_Delete(j);
    return s;
}

/* ---- finding ------------------------------------------------------------------- */

char *ckpt_path(const char *run, int64_t step)
{
    char name[40], *ckpt = fs_join(run, "ckpt");
    snprintf(name, sizeof name, "%010lld", (long long)step);
    char *path = fs_join(ckpt, name);
    free(ckpt);
    return path;
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

int64_t ckpt_steps(const char *run, int64_t **step)
{
    char **name = NULL, *ckpt = fs_join(run, "ckpt");
    int64_t n = 0, found = 0;
    *step = NULL;
    if (fs_is_dir(ckpt) && fs_entries(ckpt, &name, &n) == CHI_OK && n) *step = xcalloc((size_t)n, sizeof **step);
    for (int64_t i = 0; i < n; i++) {
        size_t len = strlen(name[i]);
        if (len >= 10 && len <= 18 && strspn(name[i], "0123456789") == len)
            (*step)[found++] = strtoll(name[i], NULL, 10);
    }
    if (found) qsort(*step, (size_t)found, sizeof **step, newest_first);
    fs_list_free(name, n);
    free(ckpt);
    return found;
}

static chi_status verify_file(const char *folder, const cJSON *entry)
{
    struct stat st;
    int64_t want = 0, n = 0;
    uint64_t hash = 0;
    char hex[20], *path = fs_join(folder, json_text(entry, "name"));
    chi_status s = CHI_OK;
    json_int(cJSON_GetObjectItemCaseSensitive(entry, "bytes"), &want);
    if (stat(path, &st) < 0)
        s = errno == ENOENT ? fail(CHI_EDATA, "%s is missing", path) : fs_fail("read", path);
    else if (st.st_size != want)
        s = fail(CHI_EDATA, "%s is %lld bytes, its manifest promises %lld: copied incompletely?", path,
                 (long long)st.st_size, (long long)want);
    if (s == CHI_OK) s = fs_hash(path, &n, &hash);
    snprintf(hex, sizeof hex, "%016" PRIx64, hash);
    if (s == CHI_OK && strcmp(hex, json_text(entry, "xxh3")))
        s = fail(CHI_EDATA, "%s is damaged: its XXH3 is %s, its manifest says %s", path, hex,
                 json_text(entry, "xxh3"));
    free(path);
    return s;
}

chi_status ckpt_verify(const char *folder)
{
    cJSON *j;
    TRY(manifest_read(folder, &j));
    struct ckpt_meta meta;
    chi_status s = manifest_meta(folder, j, &meta);
    const cJSON *files = cJSON_GetObjectItemCaseSensitive(j, "files");
    for (const cJSON *c = files->child; s == CHI_OK && c; c = c->next) s = verify_file(folder, c);
    cJSON_Delete(j);
    return s;
}

chi_status ckpt_latest(const char *run, char **path)
{
    int64_t *step, n = ckpt_steps(run, &step);
    chi_status s = CHI_OK;
    *path = NULL;
    for (int64_t i = 0; i < n && !*path; i++) {
        char *p = ckpt_path(run, step[i]);
        s = ckpt_verify(p);
        if (s == CHI_OK) *path = p;
        else {
            warn("checkpoint %lld is skipped: %s", (long long)step[i], fail_text());
            free(p);
            if (s != CHI_EDATA && s != CHI_EIO) break;
        }
    }
    free(step);
    if (s == CHI_EDATA || s == CHI_EIO)
        return fail(CHI_EDATA, "none of the %lld checkpoints of %s is whole (see the warnings above): restore one"
                    " from a copy, or choose another run.dir", (long long)n, run);
    return s;
}

chi_status ckpt_fits(const char *run, const struct config *c)
{
    int64_t *step, n = ckpt_steps(run, &step);
    chi_status s = CHI_OK;
    for (int64_t i = 0; i < n; i++) {
        char *p = ckpt_path(run, step[i]);
        cJSON *j = NULL;
        bool readable = manifest_read(p, &j) == CHI_OK;
        if (readable) s = manifest_fits(p, j, c, NULL, false);
        cJSON_Delete(j);
        free(p);
        if (readable) break;
    }
    free(step);
    return s;
}
