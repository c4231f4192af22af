/* bpe.c - byte-level BPE with a vocabulary of one's own, and the plugin of its relatives.
 *
 * A text is cut by a split rule (split.c), and each piece is merged (merge.c).  The vocabulary
 * is a file of ranks (ranks.c), such as `chimera tokenizer train` writes; without one the 256
 * bytes are all there is.  The id behind the last rank ends a document.                       */
#include <chimera/plugin.h>

#include "encoder.h"

struct bpe_conf {
    const char *file;
    int32_t split;
};

static chi_status bpe_open(const struct chi_host *h, void *self, const void *conf)
{
    const struct bpe_conf *c = conf;
    struct encoder *e = self;
    chi_status s = c->file && *c->file ? bpe_read_ranks(h, c->file, &e->v) : bpe_only_bytes(h, &e->v);
    if (s != CHI_OK) return s;
    e->step[e->n_step++] = (struct step){ .kind = STEP_RULE, .rule = c->split };
    e->end = (int32_t)e->v.n;
    e->ids = e->v.n + 1;
    return bpe_encoder_ready(h, e);
}

static const struct chi_option options[] = {
    CHI_PATH(struct bpe_conf,
             file, "", "the vocabulary, as `chimera tokenizer train` writes it; empty: the 256 bytes", 0),
    CHI_ENUM(struct bpe_conf, split, "o200k", SPLIT_NAMES,
             "where no token crosses; the rule that the vocabulary was trained with", CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

static const struct chi_tokenizer_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct encoder), .open = bpe_open, .vocab = bpe_ids,
    .end = bpe_end, .encode = bpe_encode_plain, .decode = bpe_decode, .encode_in = bpe_encode_in,
    .piece = bpe_first_piece, .rules = bpe_rules,
};

static const struct chi_component bpe = {
    .struct_size = sizeof bpe, .kind = CHI_TOKENIZER, .name = "bpe", .revision = 1,
    .summary = "byte-level BPE with a vocabulary from a file", .papers = "1508.07909", .options = options,
    .conf_size = sizeof(struct bpe_conf), .ops = &ops,
};

CHI_PLUGIN(bpe, .version = "1.0", .license = "MIT",
           .summary = "byte-level BPE: own vocabularies, o200k, tokenizer.json",
           .components = CHI_COMPONENTS(&bpe, &bpe_o200k, &bpe_huggingface));
