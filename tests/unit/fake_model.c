/* fake_model.c - see fake_model.h.                                               */
#include "fake_model.h"
#include "core.h"

#include <stdlib.h>
#include <string.h>

static const struct chi_component mixer = { .kind = CHI_LAYER, .name = "mixer_x", .revision = 3 };
static struct part mixer_part = { &mixer, "layer.X", NULL }, ffn_part;
static _Alignas(64) float params[FAKE_FLOATS];

void fake_open(struct model *m, struct spec *s, struct config *c)
{
    static const struct model_tensor tensors[] = {
        { .name = "embed.weight", .shape = { 5, 4 }, .n = 20 },
        { .name = "layers.0.mixer.q_proj.weight", .shape = { 7, 5 }, .n = 35 },
        { .name = "final_norm.weight", .shape = { 4 }, .n = 4 }
    };
    *s = (struct spec){ .config = c, .mixer = &mixer_part, .ffn = &ffn_part };
    s->model.num_hidden_layers = 1;
    *m = (struct model){ .spec = s, .params = params };
    for (int i = 0, at = 0; i < 3; i++) {
        m->tensor[i] = tensors[i];
        m->tensor[i].w = params + at;
        at += (int)round_up(tensors[i].n, 16);
    }
}

static float value(int seed, int block, int64_t i)
{
    return (float)(seed * 1000 + block * 100) + (float)i * 0.37f;
}

void fake_fill(struct model *m, float *moments, int n, int seed)
{
    for (int k = 0; k <= n; k++)
        for (int t = 0; t < 3; t++)
            for (int64_t i = 0; i < m->tensor[t].n; i++) {
                int64_t at = m->tensor[t].w - m->params + i;
                float *block = k ? moments + (k - 1) * FAKE_FLOATS : m->params;
                block[at] = value(seed, k, at);
            }
}

bool fake_equal(const struct model *m, const float *moments, int n, int seed)
{
    for (int k = 0; k <= n; k++)
        for (int t = 0; t < 3; t++)
            for (int64_t i = 0; i < m->tensor[t].n; i++) {
                int64_t at = m->tensor[t].w - m->params + i;
                const float *block = k ? moments + (k - 1) * FAKE_FLOATS : m->params;
                float want = value(seed, k, at);
                if (memcmp(&block[at], &want, 4)) return false;
            }
    return true;
}

const struct model_tensor *model_tensor(const struct model *m, int64_t i)
{
    return i < 3 ? &m->tensor[i] : NULL;
}

float *model_params(struct model *m) { return m->params; }
int64_t model_param_floats(const struct model *m) { return m ? FAKE_FLOATS : 0; }
const struct spec *model_spec(const struct model *m) { return m->spec; }

chi_status model_load(struct model *m, const struct st_file *f)
{
    for (int i = 0; i < 3; i++) {
        const struct st_tensor *t = st_find(f, m->tensor[i].name);
        if (!t || t->n != m->tensor[i].n) return fail(CHI_EDATA, "%s: wrong tensors", st_path(f));
        memcpy(m->tensor[i].w, t->data, (size_t)t->bytes);
    }
    return CHI_OK;
}

void config_print(const struct config *c, FILE *f, bool origins)
{
    fputs(origins ? "; origins\n" : c->text, f);
}

bool config_is_default(const struct config *c, const char *line)
{
    (void)c;
    (void)line;
    return false;
}

char *config_shape_text(const struct config *c)
{
    return xstrdup(c->shape);
}

chi_status config_load(struct config **c, const char *path, char *const *overrides, int n)
{
    *c = NULL;
    return fail(CHI_ECONF, "%s: %s", path, n ? overrides[n - 1] : "");
}
