/* import_layouts.c - the checkpoints of other programs that we take over: what their config.json says, and how they
 * call their tensors.
 *
 *   gated_deltanet    flash-linear-attention, fla/models/gated_deltanet, fla/layers/gated_deltanet.py,
 *                     fla/modules/mlp.py
 *                     (github.com/fla-org/flash-linear-attention; arXiv 2412.06464)
 *   xlstm             xLSTM-7B: github.com/NX-AI/xlstm, xlstm/xlstm_large/model.py, and transformers' models/xlstm
 *                     (arXiv 2503.13427)
 *
 * Keys are of three kinds: those that shape the model, which are read with that program's defaults; those that
 * change nothing of what it computes; and those that must have one value, because ours computes only that.  Any
 * other key is refused by name.                                                                                   */
#include "import_run.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "spec.h"

/* ---- names of tensors ---------------------------------------------------------------------------------------- */

static const struct alias gdn_alias[] = {
    { "embed.weight", "model.embeddings.weight" },
    { "layers.%.norm1.weight", "model.layers.%.attn_norm.weight" },
    { "layers.%.mixer.*", "model.layers.%.attn.*" },
    { "layers.%.norm2.weight", "model.layers.%.mlp_norm.weight" },
    { "layers.%.ffn.*", "model.layers.%.mlp.*" },
    { "final_norm.weight", "model.norm.weight" },
    { "lm_head.weight", "lm_head.weight" },
    { NULL, NULL }
};

static const struct alias xlstm_alias[] = {
    { "embed.weight", "backbone.embeddings.weight" },
    { "embed.weight", "embedding.weight" },
    { "layers.%.norm1.weight", "backbone.blocks.%.norm_mlstm.weight" },
    { "layers.%.mixer.*", "backbone.blocks.%.mlstm_layer.*" },
    { "layers.%.mixer.q.weight", "backbone.blocks.%.mlstm_layer.query.weight" },
    { "layers.%.mixer.k.weight", "backbone.blocks.%.mlstm_layer.key.weight" },
    { "layers.%.mixer.v.weight", "backbone.blocks.%.mlstm_layer.value.weight" },
    { "layers.%.norm2.weight", "backbone.blocks.%.norm_ffn.weight" },
    { "layers.%.ffn.gate_proj.weight", "backbone.blocks.%.ffn.proj_up_gate.weight" },
    { "layers.%.ffn.up_proj.weight", "backbone.blocks.%.ffn.proj_up.weight" },
    { "layers.%.ffn.down_proj.weight", "backbone.blocks.%.ffn.proj_down.weight" },
    { "final_norm.weight", "backbone.out_norm.weight" },
    { "lm_head.weight", "lm_head.weight" },
    { NULL, NULL }
};

static const struct fused xlstm_fused[] = {
    { "backbone.blocks.%.mlstm_layer.qkv_opreact.weight",
      { "layers.%.mixer.q.weight", "layers.%.mixer.k.weight", "layers.%.mixer.v.weight",
        "layers.%.mixer.ogate_preact.weight" } },
    { "backbone.blocks.%.mlstm_layer.ifgate_preact.weight",
      { "layers.%.mixer.igate_preact.weight", "layers.%.mixer.fgate_preact.weight" } },
    { "backbone.blocks.%.mlstm_layer.ifgate_preact.bias",
      { "layers.%.mixer.igate_preact.bias", "layers.%.mixer.fgate_preact.bias" } },
    { "backbone.blocks.%.ffn.proj_up_gate_z.weight",
      { "layers.%.ffn.gate_proj.weight", "layers.%.ffn.up_proj.weight" } },
    { NULL, { NULL } }
};

/* ---- keys ---------------------------------------------------------------------------------------------- */

/* must: NULL: the program reads it; "": it changes nothing; else the values that it may have, as JSON */
struct key { const char *name, *must; };

static const struct key common_keys[] = {
    { "_attn_implementation_autoset", "" }, { "_name_or_path", "" }, { "architectures", "" }, { "auto_map", "" },
    { "bos_token_id", "" }, { "dtype", "" }, { "eos_token_id", "" }, { "id2label", "" }, { "initializer_range", "" },
    { "label2id", "" }, { "max_position_embeddings", "" }, { "model_type", "" }, { "output_attentions", "" },
    { "output_hidden_states", "" }, { "pad_token_id", "" }, { "return_dict", "" }, { "sep_token_id", "" },
    { "tokenizer_class", "" }, { "torch_dtype", "" }, { "transformers_version", "" }, { "use_cache", "" },
    { "hidden_size", NULL }, { "num_hidden_layers", NULL }, { "num_heads", NULL }, { "norm_eps", NULL },
    { "vocab_size", NULL }, { "tie_word_embeddings", NULL }, { "head_dim", NULL }, { NULL, NULL }
};

static const struct key gdn_keys[] = {
    { "attn_mode", "" }, { "fuse_norm", "" }, { "fuse_swiglu", "" }, { "fuse_cross_entropy", "" },
    { "fuse_linear_cross_entropy", "" }, { "use_l2warp", "" }, { "elementwise_affine", "true|null" },
    { "attn", NULL }, { "norm_first", "false|null" }, { "conv_bias", "false|null" }, { "expand_k", "1|null" },
    { "hidden_act", "\"swish\"|\"silu\"" },
    { "expand_v", NULL }, { "use_gate", NULL }, { "use_short_conv", NULL }, { "allow_neg_eigval", NULL },
    { "conv_size", NULL },
    { "num_v_heads", NULL }, { "hidden_ratio", NULL }, { "intermediate_size", NULL }, { NULL, NULL }
};

static const struct key xlstm_keys[] = {
    { "add_forward_backend_padding", "" }, { "autocast_kernel_dtype", "" }, { "chunk_size", "" },
    { "chunkwise_kernel", "" },
    { "force_bos_token_insert", "" }, { "forward_backend_name", "" }, { "igate_bias_init_range", "" },
    { "inference_state_dtype", "" }, { "max_inference_chunksize", "" },
    { "mlstm_round_up_to_multiple_of", "" }, { "mode", "" },
    { "norm_reduction_force_float32", "" }, { "return_last_states", "" }, { "sequence_kernel", "" },
    { "step_backend_name", "" },
    { "step_kernel", "" }, { "weight_mode", "" },
    { "add_embedding_dropout", "false" }, { "add_out_norm", "true" }, { "add_post_blocks_norm", "true" },
    { "add_post_norm", "false" }, { "add_qk_norm", "false" }, { "use_bias", "false" },
    { "cell_norm_eps", NULL }, { "embedding_dim", NULL }, { "eps", NULL }, { "ffn_proj_factor", NULL },
    { "ffn_round_up_to_multiple_of", NULL }, { "gate_soft_cap", NULL }, { "num_blocks", NULL },
    { "output_logit_soft_cap", NULL }, { "qk_dim_factor", NULL }, { "v_dim_factor", NULL }, { NULL, NULL }
};

struct keys {
    const struct import_request *request;
    const char *path;
    const cJSON *json;
    bool native;                                    /* of NX-AI's own program */
    FILE *f; char *text; size_t length; int n;      /* what cannot be honoured */
    bool hint;                                      /* --ignore would help */
};

static void CHI_PRINTF(2, 3) refuse(struct keys *k, const char *fmt, ...)
{
    va_list list;
    if (k->n++) fputs("; ", k->f);
    va_start(list, fmt);
    vfprintf(k->f, fmt, list);
    va_end(list);
}

static const struct key *find_key(const struct key *table, const char *name)
{
    for (; table->name; table++)
        if (!strcmp(table->name, name)) return table;
    return NULL;
}

static bool among(const char *values, const char *value)
{
    size_t n = strlen(value);
    for (const char *p = values; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (strcspn(p, "|") == n && !memcmp(p, value, n)) return true;
    return false;
}

/* within: "" or "attn."                                                                                           */
static void check_key_of(struct keys *k, const char *within, const struct key *own, const struct key *others,
                         const cJSON *c)
{
    const struct key *key = find_key(own, c->string);
    if (!key) key = find_key(others, c->string);
    for (int i = 0; i < k->request->n_ignore; i++)
        if (spec_matches(k->request->ignore[i], c->string) && (!key || key->must)) return;
    if (key && (!key->must || !*key->must)) return;
    char *value = cJSON_PrintUnformatted(c);
    int before = k->n;
    if (!key) refuse(k, "%s%s = %.60s: nobody knows this key", within, c->string, value ? value : "?");
    else if (!value || !among(key->must, value))
        refuse(k, "%s%s = %.60s: wanted is %s", within, c->string, value ? value : "?", key->must);
    k->hint |= k->n > before;
    cJSON_free(value);
}

static const cJSON *value_of(const struct keys *k, const char *name)
{
    const cJSON *c = cJSON_GetObjectItemCaseSensitive(k->json, name);
    return cJSON_IsNull(c) ? NULL : c;
}

static int64_t whole(struct keys *k, const char *name, int64_t usual)
{
    int64_t v = usual;
    const cJSON *c = value_of(k, name);
    if (c && (!json_int(c, &v) || v < 1 || v > 1 << 24)) {
        refuse(k, "%s: wanted is a whole number from 1 to 2^24", name);
        v = usual;
    }
    return v;
}

static double real(struct keys *k, const char *name, double usual)
{
    const cJSON *c = value_of(k, name);
    if (!c) return usual;
    if (cJSON_IsNumber(c) && c->valuedouble >= 0 && c->valuedouble <= 1e9) return c->valuedouble;
    refuse(k, "%s: wanted is a number from 0 to 1e9", name);
    return usual;
}

static bool truth(struct keys *k, const char *name, bool usual)
{
    const cJSON *c = value_of(k, name);
    if (c && !cJSON_IsBool(c)) refuse(k, "%s: wanted is true or false", name);
    return cJSON_IsBool(c) ? cJSON_IsTrue(c) : usual;
}

/* A share of a whole number that is whole itself */
static int64_t share(struct keys *k, const char *name, int64_t n, double factor)
{
    double x = (double)n * factor;
    if (x < 1 || fabs(x - nearbyint(x)) > 1e-5 * x)
        refuse(k, "%s = %g of %lld is no whole number", name, factor, (long long)n);
    return (int64_t)nearbyint(x);
}

/* ---- flash-linear-attention ---------------------------------------------------------------------------- */

/* attn: layers of plain attention among the others, fla/layers/attn.py, which is our layer attention: rotary
 * positions in halves, a window that counts the token itself                                                      */
static const struct key attn_keys[] = {
    { "qkv_bias", "false|null" }, { "qk_norm", "false|null" }, { "layers", NULL }, { "num_heads", NULL },
    { "num_kv_heads", NULL }, { "rope_theta", NULL }, { "window_size", NULL }, { NULL, NULL }
};

static const struct key no_keys[] = { { NULL, NULL } };

/* Is layer i among them?                                                                                          */
static bool listed(const cJSON *layers, int64_t i)
{
    int64_t at;
    const cJSON *c;
    cJSON_ArrayForEach(c, layers)
        if (json_int(c, &at) && at == i) return true;
    return false;
}

static void check_attn(struct keys *k, const cJSON *attn, int64_t layers)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(attn, "layers"), *c;
    int64_t at;
    for (c = attn->child; c; c = c->next) check_key_of(k, "attn.", attn_keys, no_keys, c);
    if (!cJSON_IsArray(list)) refuse(k, "attn.layers: wanted is a list of layers");
    cJSON_ArrayForEach(c, list)
        if (!json_int(c, &at) || at < 0 || at >= layers)
            refuse(k, "attn.layers: wanted are numbers from 0 to %lld", (long long)layers - 1);
}

/* "GD AT GD", and [layer.AT]                                                                                      */
static void attn_ini(struct keys *k, FILE *f, const cJSON *attn, int64_t d, int64_t layers)
{
    struct keys inner = *k;
    inner.json = attn;
    int64_t heads = whole(&inner, "num_heads", 0), kv = whole(&inner, "num_kv_heads", heads);
    int64_t window = whole(&inner, "window_size", 0);
    double theta = real(&inner, "rope_theta", 10000);
    k->n = inner.n;
    int64_t longest = whole(k, "max_position_embeddings", 2048);
    check_attn(k, attn, layers);
    if (!heads || d % heads || d / heads % 2)
        refuse(k, "attn.num_heads = %lld: wanted is a number that divides hidden_size = %lld into even heads",
               (long long)heads, (long long)d);
    if (kv != heads)
        refuse(k, "attn.num_kv_heads = %lld: wanted is attn.num_heads = %lld, for heads that share keys have no "
               "layer here", (long long)kv, (long long)heads);
    fputs("layer_pattern =", f);
    for (int64_t i = 0; i < layers; i++)
        fprintf(f, " %s", listed(cJSON_GetObjectItemCaseSensitive(attn, "layers"), i) ? "AT" : "GD");
    fprintf(f, "\n[layer.AT]\nuse = attention\nnum_heads = %lld\nhead_dim = %lld\nwindow = %lld\nmax_context = %lld\n"
               "rope_theta = %.17g\n", (long long)heads, (long long)(heads ? d / heads : 0), (long long)window,
            (long long)longest, theta);
}

static void gdn_ini(struct keys *k, FILE *f, struct layout *l)
{
    int64_t d = whole(k, "hidden_size", 2048), heads = whole(k, "num_heads", 6), dim = whole(k, "head_dim", 256);
    int64_t v_heads = whole(k, "num_v_heads", heads), ratio = whole(k, "hidden_ratio", 4);
    int64_t layers = whole(k, "num_hidden_layers", 21);
    const cJSON *attn = value_of(k, "attn");
    int64_t inner = whole(k, "intermediate_size", round_up(d * ratio * 2 / 3, 256));
    bool conv = truth(k, "use_short_conv", true);
    if (v_heads % heads)
        refuse(k, "num_v_heads = %lld: wanted is a multiple of num_heads = %lld, or null", (long long)v_heads,
               (long long)heads);
    if (attn && !cJSON_IsObject(attn)) {
        refuse(k, "attn: wanted is null or an object");
        attn = NULL;
    }
    *l = (struct layout){ .name = "gated_deltanet", .alias = gdn_alias,
                          .ones = conv ? NULL : "layers.*.mixer.*_conv1d.weight" };
    fprintf(f,
            "[model]\nhidden_size = %lld\nnum_hidden_layers = %lld\nvocab_size = %lld\nrms_norm_eps = %.17g\n"
            "ffn_pattern = MLP\ntie_word_embeddings = %s\n",
            (long long)d, (long long)layers, (long long)whole(k, "vocab_size", 32000),
            real(k, "norm_eps", 1e-6), truth(k, "tie_word_embeddings", false) ? "yes" : "no");
    if (attn) attn_ini(k, f, attn, d, layers);
    else fputs("layer_pattern = GD\n", f);
    fprintf(f,
            "[layer.GD]\nuse = gated_deltanet\nnum_heads = %lld\nnum_v_heads = %lld\nhead_dim = %lld\n"
            "head_v_dim = %lld\n"
            "conv_size = %lld\nallow_neg_eigval = %s\nuse_gate = %s\n",
            (long long)heads, (long long)(v_heads == heads ? 0 : v_heads), (long long)dim,
            (long long)share(k, "expand_v", dim, real(k, "expand_v", 2)),
            (long long)(conv ? whole(k, "conv_size", 4) : 1), truth(k, "allow_neg_eigval", false) ? "yes" : "no",
            truth(k, "use_gate", true) ? "yes" : "no");
    fprintf(f, "[layer.MLP]\nuse = swiglu\nintermediate_size = %lld\n[linear]\nquantizer = f32\n", (long long)inner);
}

/* ---- xLSTM-7B ------------------------------------------------------------------------------------------ */

/* One of two names for the same number */
static int64_t either(struct keys *k, const char *one, const char *other, int64_t usual)
{
    int64_t a = whole(k, one, 0), b = whole(k, other, 0);
    if (a && b && a != b)
        refuse(k, "%s = %lld and %s = %lld are the same thing", one, (long long)a, other, (long long)b);
    return a ? a : b ? b : usual;
}

/* Channels of a head: a factor of the width, over the heads */
static int64_t head_channels(struct keys *k, const char *factor, int64_t d, int64_t heads, double usual)
{
    int64_t all = (int64_t)((double)d * real(k, factor, usual));
    if (all < heads || all % heads) {
        refuse(k, "%s makes %lld channels of %lld heads", factor, (long long)all, (long long)heads);
        return 1;
    }
    return all / heads;
}

static void xlstm_ini(struct keys *k, FILE *f, struct layout *l)
{
    static const char *const needed[] = { "embedding_dim", "num_heads", "num_blocks", "vocab_size" };
    for (int i = 0; k->native && i < COUNT(needed); i++)
        if (!value_of(k, needed[i])) refuse(k, "%s is missing", needed[i]);
    int64_t d = either(k, "hidden_size", "embedding_dim", 4096), heads = whole(k, "num_heads", 8);
    int64_t keys = head_channels(k, "qk_dim_factor", d, heads, 0.5),
            values = head_channels(k, "v_dim_factor", d, heads, 1);
    int64_t multiple = whole(k, "ffn_round_up_to_multiple_of", 64);
    double eps = real(k, "norm_eps", 1e-6), up = (double)d * real(k, "ffn_proj_factor", k->native ? 2.6667 : 2.667);
    int64_t inner = (int64_t)floor((up + (double)multiple - 1) / (double)multiple) * multiple;
    if (fabs(real(k, "cell_norm_eps", eps) - eps) > 1e-9 * eps)
        refuse(k, "cell_norm_eps: wanted is norm_eps = %g", eps);
    if (whole(k, "head_dim", values) != values)
        refuse(k, "head_dim: wanted is %lld by the other keys", (long long)values);
    if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(k->json, "gate_soft_cap")))
        refuse(k, "gate_soft_cap = null: wanted is a number");
    *l = (struct layout){ .name = "xlstm", .alias = xlstm_alias, .fused = xlstm_fused };
    fprintf(f,
            "[model]\nhidden_size = %lld\nnum_hidden_layers = %lld\nvocab_size = %lld\nrms_norm_eps = %.17g\n"
            "layer_pattern = XM\nffn_pattern = MLP\ntie_word_embeddings = %s\nlogit_soft_cap = %.17g\n",
            (long long)d, (long long)either(k, "num_hidden_layers", "num_blocks", 32),
            (long long)whole(k, "vocab_size", 50304), eps, truth(k, "tie_word_embeddings", false) ? "yes" : "no",
            cJSON_HasObjectItem(k->json, "output_logit_soft_cap") ? real(k, "output_logit_soft_cap", 0) : 30);
    fprintf(f,
            "[layer.XM]\nuse = mlstm\nnum_heads = %lld\nhead_dim = %lld\nhead_v_dim = %lld\n"
            "gate_soft_cap = %.17g\nnorm_eps = %.17g\ncell_eps = %.17g\n",
            (long long)heads, (long long)keys, (long long)values, real(k, "gate_soft_cap", 15), eps,
            real(k, "eps", 1e-6));
    fprintf(f, "[layer.MLP]\nuse = swiglu\nintermediate_size = %lld\n[linear]\nquantizer = f32\n", (long long)inner);
}

/* ---- which one ----------------------------------------------------------------------------------------- */

static const struct kind {
    const char *model_type, *architecture;
    const struct key *keys;
    void (*ini)(struct keys *, FILE *, struct layout *);
} kinds[] = {
    { "gated_deltanet", "GatedDeltaNetForCausalLM", gdn_keys, gdn_ini },
    { "xlstm", "xLSTMForCausalLM", xlstm_keys, xlstm_ini },
};

static chi_status find_kind(const char *path, const cJSON *j, const struct kind **out)
{
    const char *type = json_text(j, "model_type");
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(j, "architectures");
    const char *name = cJSON_IsArray(list) && list->child ? cJSON_GetStringValue(list->child) : NULL;
    for (int i = 0; i < COUNT(kinds); i++)
        if (type ? !strcmp(type, kinds[i].model_type) : name && !strcmp(name, kinds[i].architecture)) {
            *out = &kinds[i];
            return CHI_OK;
        }
    return fail(
        CHI_ECONF,
        "%s: model_type is %s, architecture %s; import knows gated_deltanet (GatedDeltaNetForCausalLM) and "
        "xlstm (xLSTMForCausalLM)",
        path, type ? type : "missing", name ? name : "missing");
}

chi_status checkpoint_config(const struct import_request *q, const char *path, const cJSON *j, bool native,
                             struct layout *l, char **ini)
{
    const struct kind *kind = &kinds[1];
    struct keys k = { .request = q, .path = path, .json = j, .native = native };
    size_t n;
    if (!native) TRY(find_kind(path, j, &kind));
    FILE *f = open_memstream(ini, &n);
    k.f = open_memstream(&k.text, &k.length);
    if (!f || !k.f) return fail(CHI_ENOMEM, "no memory for the text of a configuration");
    for (const cJSON *c = j->child; c; c = c->next) check_key_of(&k, "", kind->keys, common_keys, c);
    kind->ini(&k, f, l);
    fclose(f);
    fclose(k.f);
    chi_status s = !k.n ? CHI_OK : fail(CHI_ECONF, "%s cannot be honoured: %s%s", path, k.text,
                                        k.hint ? " (--ignore KEY leaves one out)" : "");
    free(k.text);
    return s;
}
