/* end_has_text.c - a tokenizer of bytes whose end of a document is a line's end in the text, too.      */
#include <chimera/data.h>
#include <chimera/plugin.h>
static chi_status open(const struct chi_host *h, void *self, const void *conf) { (void)h, (void)self,
                                                                                 (void)conf; return CHI_OK; }
static int64_t vocab(const void *self) { (void)self; return 257; }
static int32_t end(const void *self) { (void)self; return 256; }
static int64_t encode(const void *self, const unsigned char *text, int64_t n, int32_t *ids, int64_t max)
{
    int64_t count = 0;
    (void)self;
    for (int64_t i = 0; i < n; i++) {
        if (count < max) ids[count] = text[i];
        count++;
    }
    return count;
}
static int64_t decode(const void *self, int32_t id, unsigned char *text, int64_t max)
{
    (void)self;
    if (id < 0 || id > 256) return 0;
    if (max > 0) *text = id < 256 ? (unsigned char)id : '\n';
    return 1;
}
static const struct chi_tokenizer_ops ops = { .struct_size = sizeof ops, .open = open, .vocab = vocab, .end = end,
                                              .encode = encode, .decode = decode };
static const struct chi_component end_has_text = {
    .struct_size = sizeof end_has_text, .kind = CHI_TOKENIZER, .name = "end_has_text", .revision = 1,
        .summary = "bytes",
    .ops = &ops,
};
CHI_PLUGIN(end_has_text, .version = "1.0", .license = "MIT", .summary = "bytes",
           .components = CHI_COMPONENTS(&end_has_text));
