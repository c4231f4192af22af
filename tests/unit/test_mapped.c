/* test_mapped.c - mapped files that become shorter while they are in use.                            */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core.h"
#include "fs.h"
#include "gguf.h"
#include "mapped.h"
#include "pool.h"
#include "safetensors.h"
#include "scratch.h"

static char dir[SCRATCH_SIZE];

static void setup(void)
{
    make_scratch(dir);
    cr_assert_eq(chdir(dir), 0);
    if (!freopen("messages", "w", stderr)) cr_assert_fail("stderr");
}

static void teardown(void)
{
    cr_assert_eq(fs_remove_tree(dir), CHI_OK);
}

TestSuite(mapped, .init = setup, .fini = teardown);

static volatile unsigned char sink;
static const char elsewhere[] = "x";

/* The status of a process that does this */
static int child(void (*f)(void))
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (!pid) {
        signal(SIGBUS, SIG_DFL);
        f();
        _exit(0);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return status;
}

static void shrink_checkpoint(void)
{
    struct st_file *f;
    for (int i = 0; i < 300; i++) {                         /* those that were closed leave nothing behind       */
        if (st_open(&f, "big.safetensors") != CHI_OK) _exit(9);
        st_close(f);
    }
    if (st_open(&f, "big.safetensors") != CHI_OK || truncate("big.safetensors", 4096) < 0) _exit(9);
    const unsigned char *data = st_at(f, 0)->data;
    sink = data[100000];
}

static void shrink_gguf(void)
{
    struct gguf_file *f;
    if (gguf_open(&f, "big.gguf") != CHI_OK || truncate("big.gguf", 4096) < 0) _exit(9);
    sink = gguf_at(f, 0)->data[100000];
}

static void shrink_own(void)
{
    mapped_add(elsewhere, 1, "nothing", MAPPED_READ);  /* so that the handler is there                           */
    int fd = open("own", O_RDWR | O_CREAT, 0666);
    if (fd < 0 || ftruncate(fd, 8192) < 0) _exit(9);
    unsigned char *p = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED || ftruncate(fd, 0) < 0) _exit(9);
    sink = p[5000];
}

/* At the very place where a file of ours was                                                         */
static void shrink_own_behind_a_closed_one(void)
{
    struct st_file *f;
    if (st_open(&f, "big.safetensors") != CHI_OK) _exit(9);
    unsigned char *at = (unsigned char *)((uintptr_t)st_at(f, 0)->data & ~(uintptr_t)4095);
    st_close(f);
    int fd = open("own", O_RDWR | O_CREAT, 0666);
    if (fd < 0 || ftruncate(fd, 8192) < 0) _exit(9);
    if (mmap(at, 8192, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED || ftruncate(fd, 0) < 0) _exit(9);
    sink = at[5000];
}

static void send_one(void)
{
    mapped_add(elsewhere, 1, "nothing", MAPPED_READ);
    raise(SIGBUS);
}

static void former_handler(int number)
{
    (void)number;
    _exit(77);
}

static void shrink_own_with_handler(void)
{
    signal(SIGBUS, former_handler);
    shrink_own();
}

static void shrink_written(void)
{
    int fd = open("written", O_RDWR | O_CREAT, 0666);
    if (fd < 0 || ftruncate(fd, 8192) < 0) _exit(9);
    unsigned char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    mapped_add(p, 8192, "written", MAPPED_WRITE);
    if (p == MAP_FAILED || ftruncate(fd, 0) < 0) _exit(9);
    p[5000] = 1;
}

Test(mapped, a_file_that_becomes_shorter)
{
    FILE *f = fopen("big.safetensors", "wb");
    struct st_writer *w = st_create(f);
    char *said;
    int64_t n;
    float *data = xcalloc(50000, sizeof *data);
    st_add(w, "x", ST_F32, 1, (const int64_t[]){ 50000 });
    cr_assert_eq(st_begin(w), CHI_OK);
    cr_assert_eq(st_write(w, data, 200000), CHI_OK);
    cr_assert_eq(st_finish(w), CHI_OK);
    fclose(f);
    f = fopen("big.gguf", "wb");
    struct gguf_writer *g = gguf_create(f);
    gguf_add(g, "x", GGUF_F32, 1, (const int64_t[]){ 50000 });
    cr_assert_eq(gguf_begin(g), CHI_OK);
    cr_assert_eq(gguf_write(g, data, 200000), CHI_OK);
    cr_assert_eq(gguf_finish(g), CHI_OK);
    fclose(f);
    free(data);
    int status = child(shrink_own_behind_a_closed_one);
    cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS, "%x", status);
    status = child(shrink_checkpoint);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 3, "%x", status);
    status = child(shrink_gguf);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 3, "%x", status);
    status = child(shrink_written);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 5, "%x", status);
    cr_expect(!fs_exists("written"), "half a file stays");
    cr_assert_eq(fs_read("messages", (unsigned char **)&said, &n), CHI_OK);
    cr_expect(strstr(said, "chimera: big.safetensors cannot be read any more")
              && strstr(said, "chimera: big.gguf cannot")
              && strstr(said, "chimera: written cannot be written"),
              "%s", said);
    cr_expect(!strstr(said, "nothing"));
    mem_free(said);
    status = child(shrink_own);
    cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS, "%x", status);
    status = child(send_one);
    cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS, "%x", status);
    status = child(shrink_own_with_handler);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 77, "%x", status);
}

/* ---- many readers ---------------------------------------------------------------------- */

enum { READERS = 4, PAGE = 4096 };
static atomic_int readers;

/* All at the same time                                                              */
static void read_page(void *arg, int64_t i, struct chi_scratch *s)
{
    (void)s;
    atomic_fetch_add(&readers, 1);
    while (readers < pool_size()) sched_yield();
    (void)((volatile unsigned char *)arg)[(i + 1) * PAGE];
}

static void read_what_is_gone(int to)
{
    unsigned char *bytes;
    struct stat st;
    dup2(to, 2);
    pool_threads(READERS);
    if (mapped_open("short", &bytes, &st) != CHI_OK || truncate("short", PAGE) < 0) _exit(1);
    pool_run(pool_size(), read_page, bytes);
    _exit(1);
}

Test(mapped, one_of_many_readers_says_that_a_file_became_shorter)
{
    for (int i = 0; i < 25; i++) {
        char text[1000] = "";
        int ends[2], status;
        ssize_t n = 0, some;
        char *file = xcalloc(READERS + 1, PAGE);
        cr_assert_eq(fs_write_atomic("short", file, (READERS + 1) * PAGE), CHI_OK, "%s", fail_text());
        cr_assert_eq(pipe(ends), 0);
        pid_t child = fork();
        if (!child) read_what_is_gone(ends[1]);
        close(ends[1]);
        while (n < (ssize_t)sizeof text - 1 && (some = read(ends[0], text + n,
                                                            sizeof text - 1 - (size_t)n)) > 0) n += some;
        close(ends[0]);
        cr_assert(child > 0 && waitpid(child, &status, 0) == child);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 3, "status %d: %s", status, text);
        cr_assert(strstr(text, "it became shorter") && strchr(text, '\n') == text + n - 1, "%s", text);
        free(file);
    }
}
