/* huggingface.c - byte-level BPE as a tokenizer.json has it: vocabulary, merges, added tokens, and the
 * pre-tokenizers ByteLevel, Split, Digits and Sequence of them.  What would change the text or put tokens
 * around it (normalizers, most post-processors) and whatever else is not known is refused by name: an id
 * that differs from the library's is worse than none.
 *
 * In such a file bytes are written as characters: those that print stand for themselves, the others are
 * U+0100, U+0101, ... in order (GPT-2's table).  A merge has a rank by its place, whatever ids it joins.  */
#include <chimera/plugin.h>

#include "encoder.h"
#include "json_file.h"

#include <string.h>

enum { ADDED_MAX = 16384 };

struct huggingface_conf {
    const char *file, *end, *ignore;
    bool special;
};

/* ---- vocabulary ------------------------------------------------------------------------- */

struct import {
    struct json_file f;
    const struct huggingface_conf *conf;
    struct encoder *e;
    const struct chi_json_value *model, *vocab, *merges, *added;
    const char **name;                      /* [ids] in vocab, then in added, too; or NULL        */
    int16_t byte_of[324];                   /* from the characters of the table; -1: none         */
    unsigned char *bytes;                   /* of tokens, in the order of ids                     */
};

static void make_table(struct import *m)
{
    int other = 0;
    for (int c = 0; c < 324; c++) m->byte_of[c] = -1;
    for (int b = 0; b < 256; b++) {
        bool prints = (b > 32 && b < 127) || (b > 160 && b != 173);
        m->byte_of[prints ? b : 256 + other++] = (int16_t)b;
    }
}

/* Bytes that a token's characters stand for, at out (room for n); -1: others are among them       */
static int64_t from_characters(const struct import *m, const char *text, int64_t n, unsigned char *out)
{
    int64_t done = 0;
    for (int64_t i = 0; i < n; i++) {
        const unsigned char *t = (const unsigned char *)text + i;
        int c = *t;
        if (c >= 0xc2 && c < 0xc6 && i + 1 < n) c = (c & 0x1f) << 6 | (t[1] & 0x3f), i++;
        else if (c >= 0x80) return -1;
        if (c >= 324 || m->byte_of[c] < 0) return -1;
        out[done++] = (unsigned char)m->byte_of[c];
    }
    return done;
}

static const struct chi_json_value *added_of(const struct import *m, int64_t id)
{
    for (int64_t i = 0; m->added && i < m->added->n; i++) {
        const struct chi_json_value *v = json_member(&m->added->item[i], "id");
        if (v && v->type == CHI_JSON_NUMBER && (int64_t)v->number == id) return &m->added->item[i];
    }
    return NULL;
}

/* The greatest id + 1; ids are whole numbers, and not so many more than there are tokens            */
static chi_status count_ids(struct import *m)
{
    int64_t n = m->vocab->n + (m->added ? m->added->n : 0), most = 4 * n + 65536;
    for (int64_t i = 0; i < n; i++) {
        const struct chi_json_value *v = i < m->vocab->n ? &m->vocab->item[i]
                                                         : json_member(&m->added->item[i - m->vocab->n], "id");
        if (!v || v->type != CHI_JSON_NUMBER || v->number < 0 || v->number >= (double)most
            || v->number != (double)(int64_t)v->number)
            return json_refuse(&m->f, "a token's id is no whole number from 0 to %lld", (long long)most - 1);
        if ((int64_t)v->number >= m->e->ids) m->e->ids = (int64_t)v->number + 1;
    }
    return CHI_OK;
}

/* Bytes of each id; ids that only added_tokens has, and the end of a document, have none here      */
static chi_status read_vocab(struct import *m)
{
    const struct chi_host *h = m->f.h;
    struct vocabulary *v = &m->e->v;
    v->n = m->e->ids;
    const char **of = m->name = h->alloc(h, (size_t)v->n * sizeof *of);
    m->bytes = h->alloc(h, (size_t)m->f.n + 1);
    v->at = h->alloc(h, (size_t)(v->n + 1) * sizeof *v->at);
    if (!of || !m->bytes || !v->at) return CHI_ENOMEM;
    for (int64_t i = 0; i < m->vocab->n; i++) {
        int64_t id = (int64_t)m->vocab->item[i].number;
        if (of[id])
            return json_refuse(&m->f, "model.vocab gives id %lld to both %s and %s", (long long)id, of[id],
                               m->vocab->item[i].key);
        of[id] = m->vocab->item[i].key;
    }
    for (int64_t id = 0; id < v->n; id++) {
        int64_t n = 0;
        if (of[id] && id != m->e->end) {
            n = from_characters(m, of[id], (int64_t)strlen(of[id]), m->bytes + v->at[id]);
            if (n < 0 && !added_of(m, id))
                return json_refuse(&m->f, "token %lld, %s, is not written in the characters of byte-level BPE; other "
                                   "vocabularies are not known", (long long)id, of[id]);
        }
        v->at[id + 1] = v->at[id] + (n > 0 ? n : 0);
    }
    v->bytes = m->bytes;
    return bpe_vocabulary(h, m->f.name, v);
}

/* ---- merges --------------------------------------------------------------------------------- */

/* The two halves of "a b" or ["a", "b"]                                                            */
static bool halves(const struct chi_json_value *v, const char *text[2], int64_t n[2])
{
    if (v->type == CHI_JSON_LIST && v->n == 2 && v->item[0].type == CHI_JSON_TEXT
        && v->item[1].type == CHI_JSON_TEXT) {
        for (int i = 0; i < 2; i++) text[i] = v->item[i].text, n[i] = v->item[i].n;
        return true;
    }
    const char *blank = v->type == CHI_JSON_TEXT ? strchr(v->text, ' ') : NULL;
    if (!blank) return false;
    text[0] = v->text, n[0] = blank - v->text;
    text[1] = blank + 1, n[1] = v->n - n[0] - 1;
    return true;
}

static chi_status add_merge(struct import *m, int64_t rank, unsigned char *room)
{
    const struct vocabulary *v = &m->e->v;
    const char *text[2];
    int64_t n[2], bytes[2];
    int32_t id[3] = { NO_ID, NO_ID, NO_ID };
    if (!halves(&m->merges->item[rank], text, n))
        return json_refuse(&m->f, "merge %lld is neither \"a b\" nor [\"a\", \"b\"]", (long long)rank);
    for (int i = 0; i < 2; i++) {
        unsigned char *to = room + (i ? bytes[0] : 0);
        bytes[i] = n[i] + n[0] <= m->f.n ? from_characters(m, text[i], n[i], to) : -1;
        if (bytes[i] > 0) id[i] = bpe_find(v, to, bytes[i]);
        if (id[i] == NO_ID)
            return json_refuse(&m->f, "merge %lld joins %.*s, which is not in model.vocab", (long long)rank,
                               (int)n[i], text[i]);
    }
    id[2] = bpe_find(v, room, bytes[0] + bytes[1]);
    if (id[2] == NO_ID)
        return json_refuse(&m->f, "merge %lld makes %.*s%.*s, which is not in model.vocab", (long long)rank,
                           (int)n[0], text[0], (int)n[1], text[1]);
    if (!bpe_add_pair(&m->e->v, id[0], id[1], (int32_t)rank, id[2]))
        return json_refuse(&m->f, "merge %lld, %.*s %.*s, is there twice", (long long)rank, (int)n[0], text[0],
                           (int)n[1], text[1]);
    return CHI_OK;
}

static chi_status read_merges(struct import *m)
{
    const struct chi_host *h = m->f.h;
    unsigned char *room = h->alloc(h, (size_t)m->f.n + 1);
    if (!room || bpe_pairs(h, &m->e->v, m->merges->n) != CHI_OK) return CHI_ENOMEM;
    for (int64_t i = 0; i < m->merges->n; i++) {
        chi_status s = add_merge(m, i, room);
        if (s != CHI_OK) return s;
    }
    bpe_ready(&m->e->v);
    return CHI_OK;
}

/* ---- added tokens ----------------------------------------------------------------------------- */

/* One text for an id.  The library would take the vocabulary's id for it, whatever added_tokens says */
static chi_status check_added(const struct import *m, const struct chi_json_value *content, int32_t id)
{
    unsigned char bytes[LONGEST_TOKEN];
    if (m->name[id] && strcmp(m->name[id], content->text) != 0)
        return json_refuse(&m->f, "added token %s has id %d, which is %s already", content->text, (int)id,
                           m->name[id]);
    m->name[id] = content->text;
    int64_t n = content->n <= LONGEST_TOKEN ? from_characters(m, content->text, content->n, bytes) : -1;
    int32_t other = n > 0 ? bpe_find(&m->e->v, bytes, n) : NO_ID;
    if (other == NO_ID || other == id) return CHI_OK;
    return json_refuse(&m->f, "added token %s has id %d, and %d in model.vocab", content->text, (int)id, (int)other);
}

static chi_status read_added(struct import *m)
{
    const struct chi_host *h = m->f.h;
    struct encoder *e = m->e;
    static const char *const flag[] = { "lstrip", "rstrip", "single_word" };
    if (!m->added || !m->added->n) return CHI_OK;
    if (m->added->n > ADDED_MAX)
        return json_refuse(&m->f, "%lld added tokens, wanted are at most %d", (long long)m->added->n, ADDED_MAX);
    e->special = h->alloc(h, (size_t)m->added->n * sizeof *e->special);
    if (!e->special) return CHI_ENOMEM;
    for (int64_t i = 0; i < m->added->n; i++) {
        const struct chi_json_value *t = &m->added->item[i], *content = json_member(t, "content");
        bool always = !json_yes(t, "special");
        if (!content || content->type != CHI_JSON_TEXT || !content->n)
            return json_refuse(&m->f, "added token %lld has no content", (long long)i);
        for (int k = 0; k < 3 && (always || e->recognise); k++)
            if (json_yes(t, flag[k]))
                return json_refuse(&m->f, "added token %s has %s, which takes text away and is not known",
                                   content->text, flag[k]);
        int32_t id = (int32_t)json_member(t, "id")->number;
        chi_status s = check_added(m, content, id);
        if (s != CHI_OK) return s;
        e->special[e->n_special++] = (struct special){ .text = content->text, .n = content->n, .id = id,
                                                       .always = always, .late = json_yes(t, "normalized") };
    }
    return CHI_OK;
}

/* Before the vocabulary, which has no bytes for it                                                  */
static chi_status find_end(struct import *m)
{
    const char *end = m->conf->end;
    for (int64_t i = 0; m->added && i < m->added->n; i++) {
        const struct chi_json_value *c = json_member(&m->added->item[i], "content");
        if (!c || c->type != CHI_JSON_TEXT || strcmp(c->text, end) != 0) continue;
        m->e->end = (int32_t)json_member(&m->added->item[i], "id")->number;
        return CHI_OK;
    }
    return m->f.h->fail(m->f.h, CHI_ECONF,
                        "end = %s is not among added_tokens of %s: name the one that ends a document", end,
                        m->f.name);
}

/* ---- what else a file says ---------------------------------------------------------------------- */

static bool ignored(const struct import *m, const char *part)
{
    size_t n = strlen(part);
    for (const char *w = m->conf->ignore; (w = strstr(w, part)); w += n)
        if ((w == m->conf->ignore || w[-1] == ' ') && (!w[n] || w[n] == ' ')) return true;
    return false;
}

/* Null, or ByteLevel, or a Sequence of these under key: nothing that changes ids                     */
static bool harmless(const struct chi_json_value *v, const char *key)
{
    const struct chi_json_value *list = v && v->type == CHI_JSON_OBJECT ? json_member(v, key) : NULL;
    if (!v || v->type == CHI_JSON_NULL || json_is(v, "ByteLevel")) return true;
    if (!json_is(v, "Sequence") || !list || list->type != CHI_JSON_LIST) return false;
    for (int64_t i = 0; i < list->n; i++)
        if (!json_is(&list->item[i], "ByteLevel")) return false;
    return true;
}

static chi_status check_parts(const struct import *m)
{
    static const struct { const char *name, *list; } part[] = {
        { "normalizer", "normalizers" }, { "post_processor", "processors" }, { "decoder", "decoders" },
        { "truncation", "" }, { "padding", "" },
    };
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        const struct chi_json_value *v = json_member(m->f.root, part[i].name);
        bool is_null = !v || v->type == CHI_JSON_NULL;
        if (is_null || ignored(m, part[i].name) || ((i == 1 || i == 2) && harmless(v, part[i].list))) continue;
        return json_refuse(&m->f,
                           "%s %s would make other ids and is not known; ignore = %s reads the file without it",
                           part[i].name, json_type(v), part[i].name);
    }
    static const char *const empty[] = { "dropout", "continuing_subword_prefix", "end_of_word_suffix",
                                         "byte_fallback" };
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        const struct chi_json_value *v = json_member(m->model, empty[i]);
        bool set = v && (v->type == CHI_JSON_TEXT ? v->n > 0 : v->type == CHI_JSON_NUMBER
                         || v->type == CHI_JSON_BOOL);
        if (set && (v->type == CHI_JSON_TEXT || v->number != 0))
            return json_refuse(&m->f, "model.%s is set and not known", empty[i]);
    }
    return CHI_OK;
}

static chi_status read_file(struct import *m, const struct chi_host *h, const char *file)
{
    chi_status s = json_open(&m->f, h, file);
    if (s != CHI_OK) return s;
    m->model = json_member(m->f.root, "model");
    if (!m->model || !json_is(m->model, "BPE"))
        return json_refuse(&m->f, "its model is %s, wanted is BPE", m->model ? json_type(m->model) : "missing");
    m->vocab = json_member(m->model, "vocab");
    m->merges = json_member(m->model, "merges");
    m->added = json_member(m->f.root, "added_tokens");
    if (!m->vocab || m->vocab->type != CHI_JSON_OBJECT || !m->merges || m->merges->type != CHI_JSON_LIST)
        return json_refuse(&m->f, "model.vocab is no object, or model.merges no list");
    if (m->added && m->added->type != CHI_JSON_LIST) return json_refuse(&m->f, "added_tokens is no list");
    return check_parts(m);
}

static chi_status huggingface_open(const struct chi_host *h, void *self, const void *conf)
{
    struct import m = { .conf = conf, .e = self };
    struct encoder *e = self;
    chi_status s;
    if (!m.conf->file || !*m.conf->file) return h->fail(h, CHI_ECONF, "file is not set: name a tokenizer.json");
    e->recognise = m.conf->special;
    make_table(&m);
    if ((s = read_file(&m, h, m.conf->file)) != CHI_OK || (s = count_ids(&m)) != CHI_OK
        || (s = find_end(&m)) != CHI_OK
        || (s = read_vocab(&m)) != CHI_OK || (s = read_merges(&m)) != CHI_OK || (s = read_added(&m)) != CHI_OK
        || (s = json_steps(&m.f, e)) != CHI_OK)
        return s;
    e->v.whole = json_yes(m.model, "ignore_merges");
    return bpe_encoder_ready(h, e);
}

static const struct chi_option options[] = {
    CHI_PATH(struct huggingface_conf, file, "", "a tokenizer.json", 0),
    CHI_STRING(struct huggingface_conf, end, "<|endoftext|>", "the added token that ends a document", CHI_OPT_SHAPE),
    CHI_BOOL(struct huggingface_conf, special, "no",
             "recognise special tokens in a text; the end of a document never is", 0),
    CHI_STRING(struct huggingface_conf, ignore, "",
               "parts of the file to read it without, though ids then differ from the "
               "library's: normalizer, post_processor, decoder, truncation, padding", CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

static const struct chi_tokenizer_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct encoder), .open = huggingface_open, .vocab = bpe_ids,
    .end = bpe_end, .encode = bpe_encode_plain, .decode = bpe_decode, .encode_in = bpe_encode_in, .rules = bpe_rules,
};

const struct chi_component bpe_huggingface = {
    .struct_size = sizeof bpe_huggingface, .kind = CHI_TOKENIZER, .name = "huggingface", .revision = 1,
    .summary = "byte-level BPE from a tokenizer.json", .options = options,
    .conf_size = sizeof(struct huggingface_conf), .ops = &ops,
};
