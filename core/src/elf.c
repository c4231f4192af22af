/* elf.c - a checked reader of ELF shared objects; see elf_reader.h.
 *
 * The way to a symbol: program headers -> PT_DYNAMIC -> DT_SYMTAB, DT_STRTAB and a
 * hash table, which alone tells how many symbols there are.  Addresses become file
 * offsets through PT_LOAD.  Section headers are not used: dlopen() ignores them, too,
 * and a file may have none.  Only files of this machine's class and byte order are
 * read; ElfW() makes that ELF64 or ELF32.                                      */
#include "elf_reader.h"
#include "wasm_reader.h"

#include <elf.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
enum { MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { MACHINE = EM_AARCH64 };
#elif defined(__i386__)
enum { MACHINE = EM_386 };
#elif defined(__arm__)
enum { MACHINE = EM_ARM };
#elif defined(__riscv)
enum { MACHINE = EM_RISCV };
#else
enum { MACHINE = -1 };                  /* not known here: the linker will say   */
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
enum { ORDER = ELFDATA2LSB };
#else
enum { ORDER = ELFDATA2MSB };
#endif
enum { CLASS = sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32 };

struct file {
    const unsigned char *bytes;
    uint64_t n;
    ElfW(Ehdr) head;
    uint64_t symbols, strings, strings_size, gnu_hash, hash;    /* offsets; 0: absent */
    char *why;
};

static bool damaged(struct file *f, const char *what)
{
    snprintf(f->why, 160, "damaged ELF file (%s) - build it again", what);
    return false;
}

/* Copies size bytes at an offset; false if they are not all inside the file     */
static bool get(const struct file *f, uint64_t at, void *to, uint64_t size)
{
    if (at > f->n || size > f->n - at) return false;
    memcpy(to, f->bytes + at, size);
    return true;
}

static const char *machine_name(unsigned machine)
{
    switch (machine) {
    case EM_X86_64:  return "x86-64";
    case EM_AARCH64: return "aarch64";
    case EM_386:     return "i386";
    case EM_ARM:     return "arm";
    case EM_RISCV:   return "riscv";
    case EM_PPC64:   return "ppc64";
    case EM_S390:    return "s390";
    default:         return "another machine";
    }
}

/* Is it a shared object of this machine?                                        */
static bool check_head(struct file *f)
{
    unsigned char id[EI_NIDENT];
    if (!get(f, 0, id, sizeof id) || memcmp(id, ELFMAG, SELFMAG) != 0) {
        snprintf(f->why, 160, "%s - expected a shared object (cc -shared)",
                 wasm_is(f->bytes, (int64_t)f->n) ? "a WebAssembly module" : "not an ELF file");
        return false;
    }
    if (id[EI_CLASS] != CLASS || id[EI_DATA] != ORDER) {
        snprintf(f->why, 160, "is a %d-bit %s-endian ELF file, this chimera is %d-bit %s-endian - rebuild it",
                 id[EI_CLASS] == ELFCLASS32 ? 32 : 64, id[EI_DATA] == ELFDATA2MSB ? "big" : "little",
                 CLASS == ELFCLASS64 ? 64 : 32, ORDER == ELFDATA2LSB ? "little" : "big");
        return false;
    }
    if (!get(f, 0, &f->head, sizeof f->head)) return damaged(f, "its head is cut off");
    if (MACHINE >= 0 && f->head.e_machine != MACHINE) {
        snprintf(f->why, 160, "is machine code for %s (%u), this chimera runs on %s - rebuild it",
                 machine_name(f->head.e_machine), (unsigned)f->head.e_machine, machine_name((unsigned)MACHINE));
        return false;
    }
    if (f->head.e_type != ET_DYN) {
        snprintf(f->why, 160, "ELF type %u, wanted 3, a shared object - link it with -shared",
                 (unsigned)f->head.e_type);
        return false;
    }
    if (f->head.e_phentsize != sizeof(ElfW(Phdr))) return damaged(f, "size of program headers");
    return true;
}

static bool program_header(const struct file *f, unsigned i, ElfW(Phdr) *p)
{
    return i < f->head.e_phnum && get(f, f->head.e_phoff + (uint64_t)i * sizeof *p, p, sizeof *p);
}

/* The file offset of [address, address + size), which one PT_LOAD must hold     */
static bool to_offset(const struct file *f, uint64_t address, uint64_t size, uint64_t *offset)
{
    ElfW(Phdr) p;
    for (unsigned i = 0; program_header(f, i, &p); i++) {
        if (p.p_type != PT_LOAD || address < p.p_vaddr) continue;
        uint64_t in = address - p.p_vaddr;
        if (in > p.p_filesz || size > p.p_filesz - in) continue;
        if (p.p_offset > f->n || in > f->n - p.p_offset || size > f->n - p.p_offset - in) return false;
        *offset = p.p_offset + in;
        return true;
    }
    return false;
}

static bool dynamic_entry(struct file *f, const ElfW(Dyn) *d)
{
    switch (d->d_tag) {
    case DT_SYMTAB:
        return to_offset(f, d->d_un.d_ptr, sizeof(ElfW(Sym)), &f->symbols) || damaged(f, "symbol table");
    case DT_STRTAB:
        return to_offset(f, d->d_un.d_ptr, 1, &f->strings) || damaged(f, "string table");
    case DT_GNU_HASH:
        return to_offset(f, d->d_un.d_ptr, 16, &f->gnu_hash) || damaged(f, "hash table");
    case DT_HASH:
        return to_offset(f, d->d_un.d_ptr, 8, &f->hash) || damaged(f, "hash table");
    case DT_STRSZ:
        f->strings_size = d->d_un.d_val;
        return true;
    case DT_SYMENT:
        return d->d_un.d_val == sizeof(ElfW(Sym)) || damaged(f, "size of symbols");
    default:
        return true;
    }
}

static bool read_dynamic(struct file *f)
{
    ElfW(Phdr) p;
    unsigned i = 0;
    while (program_header(f, i, &p) && p.p_type != PT_DYNAMIC) i++;
    if (!program_header(f, i, &p)) return damaged(f, "no dynamic section");
    for (uint64_t at = 0; at + sizeof(ElfW(Dyn)) <= p.p_filesz; at += sizeof(ElfW(Dyn))) {
        ElfW(Dyn) d;
        if (p.p_offset > f->n || !get(f, p.p_offset + at, &d, sizeof d))
            return damaged(f, "dynamic section");
        if (d.d_tag == DT_NULL) break;
        if (!dynamic_entry(f, &d)) return false;
    }
    if (!f->symbols || !f->strings) return damaged(f, "no symbol table");
    if (f->strings_size > f->n - f->strings) return damaged(f, "string table");
    return f->gnu_hash || f->hash || damaged(f, "no hash table");
}

/* DT_GNU_HASH: {buckets, first, bloom words, shift}, bloom, buckets, chains.  The last
 * symbol is where the chain of the highest bucket ends (its low bit is set).     */
static bool count_gnu(struct file *f, uint64_t *first, uint64_t *count)
{
    uint32_t h[4], top = 0, word;
    if (!get(f, f->gnu_hash, h, sizeof h)) return damaged(f, "hash table");
    uint64_t buckets = f->gnu_hash + 16 + (uint64_t)h[2] * sizeof(ElfW(Addr));
    uint64_t chains = buckets + (uint64_t)h[0] * 4;
    *first = *count = h[1];
    for (uint64_t i = 0; i < h[0]; i++) {
        if (!get(f, buckets + 4 * i, &word, 4)) return damaged(f, "hash table");
        if (word > top) top = word;
    }
    if (top < h[1]) return true;        /* nothing is exported                   */
    for (uint64_t i = top;; i++) {
        if (!get(f, chains + 4 * (i - h[1]), &word, 4)) return damaged(f, "hash table");
        if (word & 1) {
            *count = i + 1;
            return true;
        }
    }
}

static bool count_symbols(struct file *f, uint64_t *first, uint64_t *count)
{
    uint32_t h[2];
    if (f->gnu_hash) return count_gnu(f, first, count);
    if (!get(f, f->hash, h, sizeof h)) return damaged(f, "hash table");
    *first = 1;
    *count = h[1];                      /* its number of chains                  */
    return true;
}

/* What linkers and sanitizers add by themselves                                 */
static bool toolchain_symbol(const char *s)
{
    static const char *const known[] = { "_init", "_fini", "_edata", "_end", "__bss_start" };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(s, known[i])) return true;
    return !strncmp(s, "__odr_asan", 10);
}

static bool exported(const ElfW(Sym) *s)
{
    unsigned bind = s->st_info >> 4, seen = s->st_other & 3u;
    return s->st_shndx != SHN_UNDEF && (bind == STB_GLOBAL || bind == STB_WEAK)
        && (seen == STV_DEFAULT || seen == STV_PROTECTED);
}

static bool symbol_name(struct file *f, const ElfW(Sym) *s, char name[64])
{
    if (s->st_name >= f->strings_size) return damaged(f, "name of a symbol");
    uint64_t most = f->strings_size - s->st_name, n = 0;
    const char *from = (const char *)f->bytes + f->strings + s->st_name;
    while (n < most && n < 63 && from[n]) n++;
    memcpy(name, from, n);
    name[n] = 0;
    return true;
}

static bool found(struct file *f, const ElfW(Sym) *s, struct elf_symbol *out)
{
    uint64_t at;
    if ((s->st_info & 15) != STT_OBJECT || !s->st_size)
        return damaged(f, "the symbol is no data object");
    if (!to_offset(f, s->st_value, s->st_size, &at)) return damaged(f, "address of the symbol");
    out->offset = (int64_t)at;
    out->size = (int64_t)s->st_size;
    return true;
}

bool elf_find(const unsigned char *bytes, int64_t n, const char *name,
              struct elf_symbol *out, char why[160])
{
    struct file f = { .bytes = bytes, .n = (uint64_t)n, .why = why };
    uint64_t first = 0, count = 0;
    *out = (struct elf_symbol){ .offset = -1 };
    if (!check_head(&f) || !read_dynamic(&f) || !count_symbols(&f, &first, &count)) return false;

    for (uint64_t i = first; i < count; i++) {
        ElfW(Sym) s;
        char text[64];
        if (!get(&f, f.symbols + i * sizeof s, &s, sizeof s)) return damaged(&f, "symbol table");
        if (!exported(&s)) continue;
        if (!symbol_name(&f, &s, text)) return false;
        if (!strcmp(text, name)) {
            if (!found(&f, &s, out)) return false;
        } else if (!out->extra[0] && !toolchain_symbol(text))
            memcpy(out->extra, text, sizeof text);
    }
    if (out->offset >= 0) return true;
    snprintf(why, 160, "exports no symbol %s - end the file with CHI_PLUGIN(...)", name);
    return false;
}

bool elf_imports(const unsigned char *bytes, int64_t n, void (*each)(void *ctx, const char *name),
                 void *ctx, char why[160])
{
    struct file f = { .bytes = bytes, .n = (uint64_t)n, .why = why };
    uint64_t first = 0, count = 0;
    if (!check_head(&f) || !read_dynamic(&f) || !count_symbols(&f, &first, &count)) return false;

    for (uint64_t i = 1; i < count; i++) {          /* the hash table leaves them out    */
        ElfW(Sym) s;
        char text[64];
        if (!get(&f, f.symbols + i * sizeof s, &s, sizeof s)) return damaged(&f, "symbol table");
        if (s.st_shndx != SHN_UNDEF || s.st_info >> 4 != STB_GLOBAL) continue;
        if (!symbol_name(&f, &s, text)) return false;
        each(ctx, text);
    }
    return true;
}
