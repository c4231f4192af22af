/* wasm_reader.h - elf_reader.h for WebAssembly: finds a data symbol of a side module.
 *
 * A side module exports the symbol as a global, whose value is an offset into the module's
 * one data segment.  Nothing of the module runs.  Bytes are untrusted: every length is
 * checked against the file's size.                                              */
#ifndef WASM_READER_H
#define WASM_READER_H

#include "elf_reader.h"

/* Is this the beginning of a WebAssembly module?                                */
bool wasm_is(const unsigned char *bytes, int64_t n);
/* As elf_find() and elf_imports(); size is what the data segment has from the symbol on,
 * since a module does not tell where a symbol ends.                             */
bool wasm_find(const unsigned char *bytes, int64_t n, const char *name, struct elf_symbol *, char why[160]);
bool wasm_imports(const unsigned char *bytes, int64_t n, void (*each)(void *ctx, const char *name), void *ctx,
                  char why[160]);

#endif
