/* crossing_pieces.c - a tokenizer that has an id for "the", and says that pieces have two bytes.      */
#include <chimera/data.h>
#include <chimera/plugin.h>
static chi_status open(const struct chi_host *h, void *self, const void *conf) { (void)h, (void)self,
                                                                                 (void)conf; return CHI_OK; }
static int64_t vocab(const void *self) { (void)self; return 258; }
static int32_t end(const void *self) { (void)self; return 256; }
static int64_t encode(const void *self, const unsigned char *text, int64_t n, int32_t *ids, int64_t max)
{
    int64_t count = 0;
    (void)self;
    for (int64_t i = 0; i < n; i++) {
        bool the = i + 2 < n && text[i] == 't' && text[i + 1] == 'h' && text[i + 2] == 'e';
        if (count < max) ids[count] = the ? 257 : text[i];
        i += the ? 2 : 0;
        count++;
    }
    return count;
}
static int64_t decode(const void *self, int32_t id, unsigned char *text, int64_t max)
{
    (void)self;
    if (id == 257) {
        for (int64_t i = 0; i < 3 && i < max; i++) text[i] = (unsigned char)"the"[i];
        return 3;
    }
    if (id < 0 || id > 255) return 0;
    if (max > 0) *text = (unsigned char)id;
    return 1;
}
static int64_t piece(const void *self, const unsigned char *text, int64_t n) { (void)self,
                                                                               (void)text; return n < 2 ? n : 2; }
static const struct chi_tokenizer_ops ops = { .struct_size = sizeof ops, .open = open, .vocab = vocab, .end = end,
                                              .encode = encode, .decode = decode, .piece = piece };
static const struct chi_component crossing_pieces = {
    .struct_size = sizeof crossing_pieces, .kind = CHI_TOKENIZER, .name = "crossing_pieces", .revision = 1,
        .summary = "bytes and the",
    .ops = &ops,
};
CHI_PLUGIN(crossing_pieces, .version = "1.0", .license = "MIT", .summary = "bytes and the",
           .components = CHI_COMPONENTS(&crossing_pieces));
