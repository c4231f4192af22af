/* byte - every byte is a token.
 *
 * Ids 0..255 are the bytes themselves, 256 ends a document.  Nothing to train, nothing
 * to lose: decode(encode(text)) is text, whatever the text, and a token is a byte, so
 * bits per token without the ends are bits per byte.                                 */
#include <chimera/data.h>
#include <chimera/plugin.h>

enum { END = 256, VOCAB = 257 };

static chi_status byte_open(const struct chi_host *h, void *self, const void *conf)
{
    (void)h, (void)self, (void)conf;        /* nothing varies                         */
    return CHI_OK;
}

static int64_t byte_vocab(const void *self)
{
    (void)self;
    return VOCAB;
}

static int32_t byte_end(const void *self)
{
    (void)self;
    return END;
}

static int64_t byte_encode(const void *self, const unsigned char *text, int64_t n,
                           int32_t *ids, int64_t max)
{
    (void)self;
    for (int64_t i = 0; i < n && i < max; i++) ids[i] = text[i];
    return n;
}

static int64_t byte_decode(const void *self, int32_t id, unsigned char *text, int64_t max)
{
    (void)self;
    if (id < 0 || id >= END) return 0;
    if (max > 0) text[0] = (unsigned char)id;
    return 1;
}

static const struct chi_tokenizer_ops ops = {
    .struct_size = sizeof ops, .open = byte_open, .vocab = byte_vocab, .end = byte_end,
    .encode = byte_encode, .decode = byte_decode,
};

static const struct chi_component byte = {
    .struct_size = sizeof byte, .kind = CHI_TOKENIZER, .name = "byte", .revision = 1,
    .summary = "256 bytes and an end of document", .ops = &ops,
};

CHI_PLUGIN(byte, .version = "1.0", .license = "MIT",
           .summary = "256 bytes and an end of document",
           .components = CHI_COMPONENTS(&byte));
