/* gguf.c - fuzz target of the reader of GGUF files: any bytes end in a file whose tensors can be read to the
 * last byte, or in a refusal.  `make fuzz-gguf` runs it under libFuzzer; tests/unit/test_gguf.c replays its
 * corpus. */
#include "gguf.h"
#include "core.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static volatile uint64_t sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const keys[] = { "general.architecture", "chimera.config", "chimera.tensors" };
    struct gguf_file *f;
    const struct gguf_tensor *t;
    if (gguf_open_bytes(&f, "input", data, (int64_t)n) != CHI_OK) {
        if (!*fail_text() || f) __builtin_trap();
        return 0;
    }
    for (int64_t i = 0; (t = gguf_at(f, i)); i++) {
        sink += xxh3(t->data, (size_t)t->bytes) + strlen(t->name);
        if (gguf_find(f, t->name) != t || t->bytes != gguf_bytes(t->type, t->n)) __builtin_trap();
    }
    for (int i = 0; i < COUNT(keys); i++)
        if (gguf_text(f, keys[i])) sink += strlen(gguf_text(f, keys[i]));
    if (gguf_check_seal(f) != CHI_OK && !*fail_text()) __builtin_trap();
    gguf_close(f);
    return 0;
}
