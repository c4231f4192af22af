/* test_registry.c - every broken plugin is refused with its own words, good ones load. */
#include "elf_reader.h"
#include "mocks.h"

TestSuite(registry, .init = mocks_setup, .fini = mocks_teardown);

/* One line that names the file and holds the words                              */
static void refused(const char *path, const char *words)
{
    struct registry *r;
    const struct plugin_info *info;
    cr_assert_eq(registry_open(&r, NULL), CHI_OK, "%s", fail_text());
    cr_assert_eq(registry_load(r, path, &info), CHI_EPLUGIN, "%s was accepted", path);
    cr_expect(strstr(fail_text(), words), "%s: '%s' is not in '%s'", path, words, fail_text());
    cr_expect(!strchr(fail_text(), '\n'), "%s", fail_text());
    const char *base = strrchr(path, '/') + 1;
    cr_expect(strstr(fail_text(), base), "%s does not name %s", fail_text(), base);
    registry_close(r);
}

static void accepted(const char *path)
{
    struct registry *r;
    const struct plugin_info *info;
    cr_assert_eq(registry_open(&r, NULL), CHI_OK, "%s", fail_text());
    cr_assert_eq(registry_load(r, path, &info), CHI_OK, "%s", fail_text());
    cr_assert(info && info->plugin);
    registry_close(r);
}

Test(registry, sins)
{
    static const struct { const char *mock, *words; } sins[] = {
        { "wrong_magic", "magic is 0x12345678, wanted 0x43484d31 - " },
        { "other_major", "built for plugin ABI 1.3, this chimera provides 0.1 - rebuild it against these headers" },
        { "newer_minor", "built for plugin ABI 0.2, this chimera provides 0.1 - rebuild it against these headers" },
        { "other_layout", "layout fingerprint is 0x" },
        { "wrong_size", "struct_size of its manifest is 40 " },
        { "wrong_name", "plugin name is somebody_else, wanted wrong_name like the file" },
        { "two_symbols", "exports another_symbol, wanted chimera_plugin alone" },
        { "no_symbol", "exports no symbol chimera_plugin" },
        { "function_symbol", "the symbol is no data object" },
        { "bad_component_name", "layer has the name 'Good Layer', wanted 1..63 of a-z, 0-9 and _" },
        { "unknown_kind", "component unknown_kind has the unknown kind 99, wanted 1..10" },
        { "no_ops", "layer no_ops has no ops" },
        { "no_forward", "layer no_forward: required member forward of its ops is missing" },
        { "short_ops", "layer short_ops: struct_size of its ops is 16, wanted " },
        { "duplicate_option", "option width: the table has it twice" },
        { "option_outside", "option rate: its field lies outside of conf_size" },
        { "undocumented", "option width: it has no doc of one line" },
        { "duplicate_component", "brings layer duplicate_component twice" },
        { "crash_constructor", "crashed while it was loaded (signal 6, " },
        { "exit_constructor", "ended the process while it was loaded (exit code 0)" },
    };
    for (int64_t i = 0; i < COUNT(sins); i++) {
        char *path = mock_path(sins[i].mock);
        refused(path, sins[i].words);
        free(path);
    }
}

Test(registry, defaults)
{
    char *path = mock_path("default_range");
    refused(path, "layer default_range: default of option width is '100': ");
    free(path);
    path = mock_path("default_text");
    refused(path, "layer default_text: default of option rate is 'fast': ");
    free(path);
}

Test(registry, nothing_runs_before_the_manifest_is_accepted)
{
    char *trace = xprintf("%s/trace", scratch), *evil = mock_path("evil_constructor"),
        *good = mock_path("trace_constructor");
    setenv("CHIMERA_MOCK_TRACE", trace, 1);
    refused(evil, "built for plugin ABI 1.0");
    cr_expect_neq(access(trace, F_OK), 0, "its constructor ran");
    accepted(good);                     /* the control: constructors do leave it */
    cr_expect_eq(access(trace, F_OK), 0);
    free(trace), free(evil), free(good);
}

Test(registry, permissions)
{
    char *path = install("good_layer", "a/b/good_layer.so"), *b = xprintf("%s/a/b", scratch),
        *a = xprintf("%s/a", scratch);
    accepted(path);
    chmod(path, 0664);
    refused(path, "file is group-writable (mode 664)");
    chmod(path, 0646);
    refused(path, "file is world-writable (mode 646)");
    chmod(path, 04755);
    refused(path, "file has a setuid or setgid bit");
    chmod(path, 0644);
    struct registry *r;
    const struct plugin_info *info;
    static const struct { bool parent; mode_t mode; const char *words; } bad[] = {
        { false, 0775, "folder is group-writable" }, { false, 0757, "folder is world-writable" },
        { false, 01777, "folder is world-writable" }, { true, 0777, "folder is world-writable" },
    };
    for (int64_t i = 0; i < COUNT(bad); i++) {
        const char *dir = bad[i].parent ? a : b;
        chmod(dir, bad[i].mode);
        cr_assert_eq(registry_open(&r, NULL), CHI_OK);
        cr_expect_eq(registry_load(r, path, &info), CHI_EPLUGIN);
        cr_expect(strstr(fail_text(), bad[i].words) && strstr(fail_text(), dir), "%s", fail_text());
        registry_close(r);
        chmod(dir, 0755);
    }
    chmod(a, 01777);                    /* as /tmp: entries of others cannot be moved */
    accepted(path);
    free(a), free(b), free(path);
}

Test(registry, owner)
{
    if (geteuid() != 0) cr_skip_test("only root can give files away");
    char *path = install("good_layer", "good_layer.so");
    cr_assert_eq(chown(path, 12345, 0), 0);
    refused(path, "owner is uid 12345, wanted root or uid 0");
    cr_assert_eq(chown(path, 0, 0), 0);
    cr_assert_eq(chown(scratch, 12345, 0), 0);
    struct registry *r;
    const struct plugin_info *info;
    cr_assert_eq(registry_open(&r, NULL), CHI_OK);
    cr_expect_eq(registry_load(r, path, &info), CHI_EPLUGIN);
    cr_expect(strstr(fail_text(), "owner is uid 12345"), "%s", fail_text());
    registry_close(r);
    free(path);
}

Test(registry, paths)
{
    struct registry *r;
    const struct plugin_info *info;
    cr_assert_eq(registry_open(&r, NULL), CHI_OK);
    cr_expect_eq(registry_load(r, "plugins/good_layer.so", &info), CHI_EPLUGIN);
    cr_expect(strstr(fail_text(), "relative path"), "%s", fail_text());
    cr_expect_eq(registry_load(r, "/nowhere/good_layer.so", &info), CHI_EPLUGIN);
    cr_expect(strstr(fail_text(), "/nowhere/good_layer.so: No such file"), "%s", fail_text());
    registry_close(r);

    char *path = install("good_layer", "real/good_layer.so"), *link = xprintf("%s/in/good_layer.so", scratch);
    char *other = install("good_quantizer", "in/good_quantizer.so"), *folder = xprintf("%s/folder.so", scratch);
    cr_assert_eq(symlink("../real/good_layer.so", link), 0);
    refused(link, "link leads out of");
    cr_assert_eq(mkdir(folder, 0755), 0);
    refused(folder, "not a regular file");
    free(path), free(link), free(other), free(folder);
}

Test(registry, damaged_files)
{
    char *path = mock_path("good_layer"), *at;
    long n;
    unsigned char *bytes = bytes_of(path, &n);
    free(path);
    free(at = put("good_layer.so", bytes, 0));
    at = xprintf("%s/good_layer.so", scratch);
    refused(at, "empty file");
    free(at), at = put("good_layer.so", "this is no shared object at all", 31);
    refused(at, "not an ELF file");
    free(at), at = put("good_layer.so", bytes, n / 8);
    refused(at, "damaged ELF file");
    free(at), at = put("good_layer.so", bytes, 40);
    refused(at, "damaged ELF file (its head is cut off)");
    unsigned char keep = bytes[4];
    bytes[4] = 3 - keep;                /* EI_CLASS                              */
    free(at), at = put("good_layer.so", bytes, n);
    refused(at, keep == 2 ? "is a 32-bit little-endian ELF file, this chimera is 64-bit" : "is a 64-bit");
    bytes[4] = keep;
    keep = bytes[18];
    bytes[18] ^= 0x55;                  /* e_machine                             */
    free(at), at = put("good_layer.so", bytes, n);
    refused(at, "is machine code for ");
    bytes[18] = keep;
    bytes[16] = 2;                      /* e_type: a program                     */
    free(at), at = put("good_layer.so", bytes, n);
    refused(at, "ELF type 2, wanted 3");
    free(at);
    free(bytes);
}

/* A block of exactly n bytes: reading past it is an error of the sanitizers      */
static void read_elf(const unsigned char *bytes, long n)
{
    unsigned char *block = malloc((size_t)(n ? n : 1));
    struct elf_symbol s;
    char why[160] = "";
    memcpy(block, bytes, (size_t)n);
    if (elf_find(block, n, "chimera_plugin", &s, why))
        cr_assert(s.offset >= 0 && s.size > 0 && s.size <= n && s.offset <= n - s.size);
    else cr_assert(*why && !strchr(why, '\n'));
    free(block);
}

Test(registry, elf_reader_survives_damage, .timeout = 60)
{
    char *path = mock_path("good_layer");
    long n;
    unsigned char *bytes = bytes_of(path, &n);
    struct elf_symbol s;
    char why[160];
    cr_assert(elf_find(bytes, n, "chimera_plugin", &s, why), "%s", why);
    cr_expect_eq(memcmp(bytes + s.offset, &(uint32_t){ CHI_MAGIC }, 4), 0);
    cr_expect(!elf_find(bytes, n, "chimera_plugi", &s, why));
    for (long cut = 0; cut < n; cut += cut < 1024 ? 1 : 97) read_elf(bytes, cut);
    uint64_t seed = 1;
    for (int i = 0; i < 20000; i++) {   /* most flips in the head and the tables  */
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        long at = (long)((seed >> 33) % (uint64_t)(i % 4 ? min_i64(n, 2048) : n));
        unsigned char keep = bytes[at];
        bytes[at] ^= (unsigned char)(i % 3 ? 1u << (seed >> 29 & 7) : 0xffu);
        read_elf(bytes, n);
        if (i % 16) bytes[at] = keep;   /* else damage piles up for a while      */
        if (i % 256 == 255) {
            free(bytes);
            bytes = bytes_of(path, &n);
        }
    }
    free(bytes);
    free(path);
}
