/* drops_bytes.c - a tokenizer of bytes that leaves out what cannot begin or continue UTF-8.       */
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
        if (text[i] >= 0xf8) continue;
        if (count < max) ids[count] = text[i];
        count++;
    }
    return count;
}
static int64_t decode(const void *self, int32_t id, unsigned char *text, int64_t max)
{
    (void)self;
    if (id < 0 || id > 255) return 0;
    if (max > 0) *text = (unsigned char)id;
    return 1;
}
static const struct chi_tokenizer_ops ops = { .struct_size = sizeof ops, .open = open, .vocab = vocab, .end = end,
                                              .encode = encode, .decode = decode };
static const struct chi_component drops_bytes = {
    .struct_size = sizeof drops_bytes, .kind = CHI_TOKENIZER, .name = "drops_bytes", .revision = 1,
        .summary = "valid bytes",
    .ops = &ops,
};
CHI_PLUGIN(drops_bytes, .version = "1.0", .license = "MIT", .summary = "valid bytes",
           .components = CHI_COMPONENTS(&drops_bytes));
