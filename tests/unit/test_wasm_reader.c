/* The reader of WebAssembly side modules, on a module written by hand: what it finds, what it
 * refuses, and that no damaged byte leads it outside of the file.                        */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "wasm_reader.h"

/* Two imports (env.__memory_base, env.puts), one global of 4, its export, and data "....wxyz" */
static const unsigned char module[] = {
    0, 'a', 's', 'm', 1, 0, 0, 0,
    2, 33, 2, 3, 'e', 'n', 'v', 13, '_', '_', 'm', 'e', 'm', 'o', 'r', 'y', '_', 'b', 'a', 's', 'e', 3, 0x7f, 0,
    3, 'e', 'n', 'v', 4, 'p', 'u', 't', 's', 0, 0,
    6, 6, 1, 0x7f, 0, 0x41, 4, 0x0b,
    7, 9, 1, 5, 't', 'h', 'i', 'n', 'g', 3, 1,
    11, 14, 1, 0, 0x23, 0, 0x0b, 8, '.', '.', '.', '.', 'w', 'x', 'y', 'z',
};
enum { GLOBAL_VALUE = 49 };

/* In a block of exactly n bytes: reading past it is an error of the sanitizers           */
static bool find(const unsigned char *bytes, int64_t n, struct elf_symbol *s, char why[160])
{
    unsigned char *block = malloc((size_t)(n ? n : 1));
    memcpy(block, bytes, (size_t)n);
    bool found = wasm_find(block, n, "thing", s, why);
    free(block);
    if (found) cr_assert(s->offset >= 0 && s->size >= 0 && s->offset + s->size <= n);
    else cr_assert(*why && !strchr(why, '\n'));
    return found;
}

Test(wasm_reader, finds_a_symbol)
{
    struct elf_symbol s;
    char why[160] = "";
    cr_assert(find(module, sizeof module, &s, why), "%s", why);
    cr_expect_eq(s.size, 4);
    cr_expect_eq(memcmp(module + s.offset, "wxyz", 4), 0);
    cr_expect_eq(*s.extra, 0);
    cr_expect(!wasm_find(module, sizeof module, "thin", &s, why));
    cr_expect(strstr(why, "has no symbol thin") != NULL, "%s", why);
    cr_expect_str_eq(s.extra, "thing");
}

static void note_import(void *to, const char *name)
{
    strcat(to, name);
    strcat(to, " ");
}

Test(wasm_reader, tells_imports)
{
    char names[100] = "", why[160] = "";
    cr_assert(wasm_imports(module, sizeof module, note_import, names, why), "%s", why);
    cr_expect_str_eq(names, "puts ");
}

Test(wasm_reader, refuses_what_is_wrong)
{
    unsigned char bytes[sizeof module];
    struct elf_symbol s;
    char why[160] = "";
    cr_expect(!find((const unsigned char *)"\177ELF....", 8, &s, why));
    cr_expect(strstr(why, "not a WebAssembly module") != NULL, "%s", why);
    memcpy(bytes, module, sizeof module);
    cr_assert_eq(bytes[GLOBAL_VALUE], 4);
    bytes[GLOBAL_VALUE] = 9;                            /* behind the data               */
    cr_expect(!find(bytes, sizeof bytes, &s, why));
    cr_expect(strstr(why, "outside of its data") != NULL, "%s", why);
    bytes[GLOBAL_VALUE] = 0x7f;                         /* -1                            */
    cr_expect(!find(bytes, sizeof bytes, &s, why));
}

Test(wasm_reader, survives_damage, .timeout = 60)
{
    unsigned char bytes[sizeof module];
    struct elf_symbol s;
    char names[4000], why[160];
    for (int64_t n = 0; n < (int64_t)sizeof module; n++) cr_expect(!find(module, n, &s, why), "%d bytes", (int)n);
    for (size_t at = 0; at < sizeof module; at++)
        for (int change = 1; change < 256; change++) {
            memcpy(bytes, module, sizeof module);
            bytes[at] ^= (unsigned char)change;
            find(bytes, sizeof bytes, &s, why);
            *names = 0;
            wasm_imports(bytes, sizeof bytes, note_import, names, why);
        }
}
