/* old_tokenizer.c - how bytes become tokens and back; why; the source.
 *
 * This one has the bytes 0..255, the end of a document 256, and then frequent pairs of English
 * letters, read greedily from the left:
 *
 *     id_t = 257 + p if the next two bytes are pair p, else the next byte
 *
 * Source: (paper or specification).  Every text has tokens, and decoding gives it back.        */
#include <chimera/data.h>
#include <chimera/plugin.h>

struct conf {                               /* what [tokenizer] says; the core fills it   */
    int64_t pairs;
};

enum { END = 256, PAIRS = 32 };

static const char pair[PAIRS][3] = {
    "e ", "th", " t", "he", "s ", " a", "d ", "in", "t ", "er", "an", " s", "on", "re", "n ", " o",
    " i", "ti", "y ", " w", "en", "at", "es", "or", "nd", "te", "is", "it", "al", "ou", "ar", "st",
};

static const struct chi_option options[] = {
    CHI_INT(struct conf, pairs, "32", 0, PAIRS, "pairs of letters that are tokens", CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

struct tokenizer { int64_t pairs; };        /* written in open, const afterwards          */

static chi_status open_tokenizer(const struct chi_host *h, void *self, const void *conf)
{
    (void)h;                                /* h->fail() explains what is refused         */
    ((struct tokenizer *)self)->pairs = ((const struct conf *)conf)->pairs;
    return CHI_OK;
}

static int64_t vocab(const void *self)
{
    return END + 1 + ((const struct tokenizer *)self)->pairs;
}

static int32_t end(const void *self)
{
    (void)self;
    return END;
}

static int64_t encode(const void *self, const unsigned char *text, int64_t n, int32_t *ids, int64_t max)
{
    const struct tokenizer *s = self;
    int64_t count = 0;
    for (int64_t i = 0; i < n; count++) {
        int64_t p = 0;
        while (p < s->pairs && !(i + 1 < n && text[i] == pair[p][0] && text[i + 1] == pair[p][1])) p++;
        int32_t id = p < s->pairs ? END + 1 + (int32_t)p : text[i];
        i += id > END ? 2 : 1;
        if (count < max) ids[count] = id;
    }
    return count;
}

static int64_t decode(const void *self, int32_t id, unsigned char *text, int64_t max)
{
    if (id < 0 || id == END || id >= vocab(self)) return 0;
    if (id < END) {
        if (max > 0) text[0] = (unsigned char)id;
        return 1;
    }
    for (int64_t i = 0; i < 2 && i < max; i++) text[i] = (unsigned char)pair[id - END - 1][i];
    return 2;
}

static const struct chi_tokenizer_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct tokenizer), .open = open_tokenizer,
    .vocab = vocab, .end = end, .encode = encode, .decode = decode,
};

static const struct chi_component component = {
    .struct_size = sizeof component, .kind = CHI_TOKENIZER, .name = "old_tokenizer", .revision = 1,
    .summary = "bytes and frequent pairs of letters",
    .options = options, .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(old_tokenizer, .version = "0.1", .license = "MIT", .summary = "bytes and frequent pairs of letters",
           .components = CHI_COMPONENTS(&component));
