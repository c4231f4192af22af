/* examples.h - the rest of a task that makes examples of 16 bits.                                    */
#include <chimera/data.h>
#include <chimera/plugin.h>
static chi_status open(const struct chi_host *h, void *self, const void *conf) { (void)h, (void)self,
                                                                                 (void)conf; return CHI_OK; }
static int64_t examples(const void *self, int split) { (void)self; return split ? 20 : 0; }
static int64_t longest(const void *self, int split) { (void)self, (void)split; return 16; }
static int64_t vocab(const void *self) { (void)self; return 2; }
static const char *slice_name(const void *self, int64_t i) { (void)self; return i ? NULL : "all"; }
#define EXAMPLES(n)                                                                                   \
    static const struct chi_task_ops ops = { .struct_size = sizeof ops, .open = open, .examples = examples, \
        .longest = longest, .vocab = vocab, .slice = slice_name, .example = example };                \
    static const struct chi_component n = { .struct_size = sizeof n, .kind = CHI_TASK, .name = #n,     \
        .revision = 1, .summary = "bits", .ops = &ops };                                              \
    CHI_PLUGIN(n, .version = "1.0", .license = "MIT", .summary = "bits", .components = CHI_COMPONENTS(&n));
