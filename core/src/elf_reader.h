/* elf_reader.h - finds a data symbol of a shared object in the bytes of its file.
 *
 * The loader wants to know what a plugin was built for before any of it runs, and
 * dlopen() runs constructors.  So the head of the manifest is read from the file,
 * through the same tables that the dynamic linker uses.  Bytes are untrusted: every
 * offset is checked against the file's size.                                   */
#ifndef ELF_READER_H
#define ELF_READER_H

#include <stdbool.h>
#include <stdint.h>

struct elf_symbol {
    int64_t offset;                     /* in the file                           */
    int64_t size;                       /* st_size; offset + size lies in the file */
    char    extra[64];                  /* another symbol that is exported, or ""  */
};

/* false: why[] says what is wrong, as the end of a sentence that begins with the
 * file's name.                                                                  */
bool elf_find(const unsigned char *bytes, int64_t n, const char *name,
              struct elf_symbol *, char why[160]);
/* Calls each(ctx, name) for every symbol that the file wants from others; weak ones, which may be
 * absent, are left out.                                                         */
bool elf_imports(const unsigned char *bytes, int64_t n, void (*each)(void *ctx, const char *name),
                 void *ctx, char why[160]);

#endif
