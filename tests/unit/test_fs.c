/* test_fs.c - files and folders.                                                  */
#include "core.h"
#include "fs.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[SCRATCH_SIZE];

static void setup(void)
{
    make_scratch(dir);
    cr_assert_eq(chdir(dir), 0);
}

static void teardown(void)
{
    cr_assert_eq(fs_remove_tree(dir), CHI_OK, "%s", fail_text());
    cr_assert(!fs_exists(dir));
}

TestSuite(fs, .init = setup, .fini = teardown);

Test(fs, write_and_read)
{
    unsigned char *p;
    int64_t n;
    char *big = xcalloc(100000, 1);
    for (int i = 0; i < 100000; i++) big[i] = (char)(i * 7);
    cr_assert_eq(fs_write_atomic("a", "old", 3), CHI_OK);
    cr_assert_eq(fs_write_atomic("a", big, 100000), CHI_OK);
    cr_assert(!fs_exists("a.tmp"));
    cr_assert_eq(fs_read("a", &p, &n), CHI_OK);
    cr_assert(n == 100000 && !memcmp(p, big, 100000) && p[n] == 0);
    mem_free(p);
    cr_assert_eq(fs_write_atomic("empty", "", 0), CHI_OK);
    cr_assert_eq(fs_read("empty", &p, &n), CHI_OK);
    cr_assert(n == 0 && p[0] == 0);
    mem_free(p);
    cr_assert_eq(fs_read("/proc/self/status", &p, &n), CHI_OK);     /* says size 0  */
    cr_assert_gt(n, 100);
    mem_free(p);
    free(big);
}

Test(fs, refusals_name_the_file)
{
    unsigned char *p;
    int64_t n;
    cr_assert_eq(fs_read("absent", &p, &n), CHI_EDATA);
    cr_assert(strstr(fail_text(), "absent"), "%s", fail_text());
    cr_assert_eq(fs_read(".", &p, &n), CHI_EDATA);
    cr_assert(strstr(fail_text(), "folder"), "%s", fail_text());
    cr_assert_eq(fs_write_atomic("no/where", "x", 1), CHI_EIO);
    cr_assert(strstr(fail_text(), "no/where"), "%s", fail_text());
    cr_assert_eq(fs_write_atomic("file", "x", 1), CHI_OK);
    cr_assert_eq(fs_mkdirs("file/below"), CHI_EIO);
    cr_assert_eq(mkdir("taken", 0777), 0);
    cr_assert_eq(fs_write_atomic("taken", "x", 1), CHI_EIO);
    cr_assert(!fs_exists("taken.tmp"));
}

Test(fs, full_disk)
{
    int fd = open("/dev/full", O_WRONLY);
    if (fd < 0) cr_skip_test("no /dev/full");
    cr_assert(!fs_write_all(fd, "x", 1));
    cr_assert_eq(errno, ENOSPC);
    cr_assert_eq(fs_fail("write", "x"), CHI_ENOMEM);
    cr_assert(strstr(fail_text(), "no space left") && strstr(fail_text(), "free some"), "%s", fail_text());
    close(fd);
    struct fs_out o;
    uint64_t hash;
    cr_assert_eq(fs_out_open(&o, "/dev/full"), CHI_OK);
    for (int i = 0; i < 100000; i++) putc('x', o.f);
    cr_assert_eq(fs_out_close(&o, &hash), CHI_ENOMEM, "%s", fail_text());
}

Test(fs, counted_and_hashed)
{
    struct fs_out o;
    uint64_t hash, again;
    int64_t n;
    cr_assert_eq(fs_out_open(&o, "h"), CHI_OK);
    for (int i = 0; i < 50000; i++) fprintf(o.f, "%d\n", i);
    cr_assert_eq(fs_out_close(&o, &hash), CHI_OK);
    cr_assert_eq(fs_hash("h", &n, &again), CHI_OK);
    cr_assert_eq(hash, again);
    cr_assert_eq(n, 288890);
    unsigned char *p;
    cr_assert_eq(fs_read("h", &p, &n), CHI_OK);
    cr_assert_eq(xxh3(p, (size_t)n), hash);
    mem_free(p);
}

Test(fs, list_is_sorted_and_does_not_follow)
{
    char **name;
    int64_t n;
    cr_assert_eq(fs_mkdirs("t/b/c//d/"), CHI_OK);
    cr_assert_eq(fs_mkdirs("t/b/c/d"), CHI_OK);
    static const char *const files[] = { "t/b/c/d/1", "t/a", "t/b-", "t/b/z", "t/Z" };
    for (int i = 0; i < 5; i++) cr_assert_eq(fs_write_atomic(files[i], "x", 1), CHI_OK);
    cr_assert_eq(symlink("..", "t/b/loop"), 0);
    cr_assert_eq(symlink("../a", "t/b/link"), 0);
    cr_assert_eq(fs_list("t", &name, &n), CHI_OK);
    static const char *const want[] = { "Z", "a", "b-", "b/c/d/1", "b/link", "b/z" };
    cr_assert_eq(n, 6);
    for (int i = 0; i < 6; i++) cr_assert_str_eq(name[i], want[i]);
    fs_list_free(name, n);
    cr_assert_eq(fs_list("absent", &name, &n), CHI_EIO);
    cr_assert(fs_is_dir("t") && !fs_is_dir("t/a") && fs_exists("t/a"));
    cr_assert_eq(fs_mkdirs("outside"), CHI_OK);
    cr_assert_eq(fs_write_atomic("outside/keep", "x", 1), CHI_OK);
    cr_assert_eq(symlink("../outside", "t/out"), 0);
    cr_assert_eq(fs_remove_tree("t"), CHI_OK);
    cr_assert(!fs_exists("t") && fs_exists("outside/keep"));
    cr_assert_eq(fs_remove_tree("t"), CHI_OK);
    cr_assert_gt(fs_free_bytes("."), 0);
    cr_assert_lt(fs_free_bytes("absent"), 0);
}

Test(fs, first_bytes)
{
    cr_assert_eq(fs_write_atomic("f", "GGUF\3", 5), CHI_OK);
    cr_expect(fs_begins("f", "GGUF") && fs_begins("f", "GG") && !fs_begins("f", "GGUf")
              && !fs_begins("f", "GGUF\3\3"));
    cr_expect(!fs_begins("absent", "GGUF") && !fs_begins(".", "GGUF"));
    cr_assert_eq(mkfifo("pipe", 0600), 0);
    cr_expect(!fs_begins("pipe", "GGUF"), "and it does not wait for a writer");
}
