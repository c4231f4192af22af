/* wasm_reader.c - a checked reader of WebAssembly side modules; see wasm_reader.h.
 *
 * A module is "\0asm", version 1, and sections: id, length, contents.  Numbers are LEB128,
 * 7 bits a byte, the lowest first.  Wanted are sections 2 (imports: global number 0 is the
 * first imported one), 6 (globals and the constants they begin with), 7 (exports) and 11
 * (data).  Function bodies are not looked at: the engine checks them.           */
#include "wasm_reader.h"

#include <stdio.h>
#include <string.h>

enum { IMPORTS = 2, GLOBALS = 6, EXPORTS = 7, DATA = 11, GLOBAL = 3, I32_CONST = 0x41, GLOBAL_GET = 0x23,
       END = 0x0b };

struct in { const unsigned char *at, *end; bool bad; };         /* what is left to read  */

static bool damaged(char why[160], const char *what)
{
    snprintf(why, 160, "damaged WebAssembly module (%s) - build it again", what);
    return false;
}

static unsigned byte(struct in *r)
{
    if (r->at < r->end) return *r->at++;
    r->bad = true;
    return 0;
}

/* At most 32 bits; sign: the highest bit read counts negative                          */
static int64_t number(struct in *r, bool sign)
{
    int64_t x = 0;
    for (int shift = 0; shift < 35; shift += 7) {
        unsigned b = byte(r);
        x |= (int64_t)(b & 0x7f) << shift;
        if (b & 0x80) continue;
        return sign && (b & 0x40) ? x - ((int64_t)1 << (shift + 7)) : x;
    }
    r->bad = true;
    return 0;
}

/* The next n bytes as a reader of their own                                            */
static struct in part(struct in *r, int64_t n)
{
    if (n < 0 || n > r->end - r->at) {
        r->bad = true;
        n = 0;
    }
    struct in p = { r->at, r->at + n, r->bad };
    r->at += n;
    return p;
}

static struct in text(struct in *r)
{
    return part(r, number(r, false));
}

static bool starts(struct in t, const char *with)
{
    return (size_t)(t.end - t.at) >= strlen(with) && !memcmp(t.at, with, strlen(with));
}

static bool is(struct in t, const char *name)
{
    return (size_t)(t.end - t.at) == strlen(name) && !memcmp(t.at, name, strlen(name));
}

/* The contents of a section; empty if there is none                                    */
static struct in section(const unsigned char *bytes, int64_t n, unsigned id)
{
    struct in all = { bytes + 8, bytes + n, false };
    while (all.at < all.end) {
        unsigned found = byte(&all);
        struct in s = part(&all, number(&all, false));
        if (all.bad) return (struct in){ bytes, bytes, true };
        if (found == id) return s;
    }
    return (struct in){ bytes, bytes, false };
}

bool wasm_is(const unsigned char *bytes, int64_t n)
{
    return n >= 8 && !memcmp(bytes, "\0asm\1\0\0\0", 8);
}

/* What follows the names of an import: its kind and type; returns the kind              */
static unsigned import_type(struct in *r)
{
    unsigned kind = byte(r);
    if (kind == 0) number(r, false);                            /* a function's type     */
    else if (kind == GLOBAL) byte(r), byte(r);
    else {                                                      /* a table or a memory   */
        if (kind == 1) byte(r);
        unsigned limits = byte(r);
        number(r, false);
        if (limits & 1) number(r, false);
    }
    return kind;
}

static int64_t imported_globals(struct in *r)
{
    int64_t globals = 0;
    for (int64_t n = number(r, false); n > 0 && !r->bad; n--) {
        text(r);
        text(r);
        globals += import_type(r) == GLOBAL;
    }
    return globals;
}

/* The number of the exported global of this name, or -1; extra: another one there is    */
static int64_t exported(struct in *r, const char *name, char extra[64])
{
    int64_t found = -1;
    for (int64_t n = number(r, false); n > 0 && !r->bad; n--) {
        struct in t = text(r);
        unsigned kind = byte(r);
        int64_t index = number(r, false);
        if (is(t, name) && kind == GLOBAL) found = index;
        else if (!starts(t, "__") && !starts(t, "dynCall_"))            /* not the linker's own */
            snprintf(extra, 64, "%.*s", (int)(t.end - t.at < 60 ? t.end - t.at : 60), (const char *)t.at);
    }
    return found;
}

/* The constant that global number index (after the imported ones) begins with, or -1     */
static int64_t constant(struct in *r, int64_t index)
{
    for (int64_t i = 0, n = number(r, false); i < n && !r->bad; i++) {
        byte(r);
        byte(r);
        unsigned op = byte(r);
        int64_t x = number(r, op == I32_CONST);
        if (byte(r) != END || op != I32_CONST) return -1;
        if (i == index) return x;
    }
    return -1;
}

/* The bytes of the first segment, which begins at the module's __memory_base               */
static struct in segment(struct in *r)
{
    int64_t n = number(r, false), flags = number(r, false);
    unsigned op = flags == 1 ? END : byte(r);                   /* 1: placed by code     */
    if (op == GLOBAL_GET) number(r, false), op = byte(r);
    if (n < 1 || flags > 1 || op != END) r->bad = true;
    return text(r);
}

bool wasm_find(const unsigned char *bytes, int64_t n, const char *name, struct elf_symbol *out, char why[160])
{
    *out = (struct elf_symbol){ 0 };
    if (!wasm_is(bytes, n)) {
        snprintf(why, 160, "not a WebAssembly module - expected a side module (emcc -sSIDE_MODULE=2)");
        return false;
    }
    struct in imports = section(bytes, n, IMPORTS), globals = section(bytes, n, GLOBALS);
    struct in exports = section(bytes, n, EXPORTS), data = section(bytes, n, DATA);
    if (imports.bad || globals.bad || exports.bad || data.bad) return damaged(why, "a section is cut off");
    int64_t before = imports.at < imports.end ? imported_globals(&imports) : 0;
    int64_t index = exports.at < exports.end ? exported(&exports, name, out->extra) : -1;
    if (imports.bad || exports.bad) return damaged(why, "imports or exports");
    if (index < 0) {
        snprintf(why, 160, "has no symbol %s - define it with CHI_PLUGIN(...) and link with "
                 "-sSIDE_MODULE=2 -sEXPORTED_FUNCTIONS=_%s", name, name);
        return false;
    }
    int64_t offset = constant(&globals, index - before);
    struct in s = segment(&data);
    if (globals.bad || data.bad || s.bad || offset < 0 || offset > s.end - s.at)
        return damaged(why, "the symbol lies outside of its data");
    out->offset = s.at - bytes + offset;
    out->size = s.end - s.at - offset;
    return true;
}

bool wasm_imports(const unsigned char *bytes, int64_t n, void (*each)(void *ctx, const char *name), void *ctx,
                  char why[160])
{
    if (!wasm_is(bytes, n)) return damaged(why, "its head");
    struct in r = section(bytes, n, IMPORTS);
    for (int64_t left = r.at < r.end ? number(&r, false) : 0; left > 0 && !r.bad; left--) {
        char name[128];
        text(&r);
        struct in t = text(&r);
        import_type(&r);
        snprintf(name, sizeof name, "%.*s", (int)(t.end - t.at < 120 ? t.end - t.at : 120), (const char *)t.at);
        bool own = !strncmp(name, "__memory_base", 13) || !strncmp(name, "__table_base", 12)
                || !strcmp(name, "memory") || !strncmp(name, "__indirect", 10) || !strcmp(name, "__stack_pointer");
        if (!r.bad && !own) each(ctx, name);
    }
    return r.bad ? damaged(why, "imports") : true;
}
