/* mocks.h - where the mock plugins lie, and a private folder to arrange them in.  */
#ifndef MOCKS_H
#define MOCKS_H

#include "core.h"
#include "registry.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Static: a test process makes one folder and removes it with its fixture        */
static char scratch[SCRATCH_SIZE];

static inline void mocks_setup(void)
{
    umask(022);
    make_scratch(scratch);
    unsetenv("CHIMERA_PLUGIN_PATH");
    setenv("XDG_CACHE_HOME", scratch, 1);   /* files that crash are remembered there  */
}

static inline void mocks_teardown(void)
{
    char *command = xprintf("rm -rf '%s'", scratch);
    cr_assert_eq(system(command), 0);
    free(command);
}

/* Caller frees (all of these)                                                   */
static inline char *mock_path(const char *name)
{
    const char *plugins = getenv("CHIMERA_BUILD_PLUGINS");
    cr_assert(plugins, "run me through make check");
    return xprintf("%.*s/tests/mock/.libs/%s.so", (int)(strrchr(plugins, '/') - plugins), plugins, name);
}

static inline unsigned char *bytes_of(const char *path, long *n)
{
    FILE *f = fopen(path, "rb");
    cr_assert(f, "%s", path);
    cr_assert_eq(fseek(f, 0, SEEK_END), 0);
    *n = ftell(f);
    rewind(f);
    unsigned char *bytes = xcalloc((size_t)*n, 1);
    cr_assert_eq(fread(bytes, 1, (size_t)*n, f), (size_t)*n);
    fclose(f);
    return bytes;
}

/* Writes scratch/where, making its folders                                      */
static inline char *put(const char *where, const void *bytes, long n)
{
    char *path = xprintf("%s/%s", scratch, where);
    for (char *s = strchr(path + strlen(scratch) + 1, '/'); s; s = strchr(s + 1, '/')) {
        *s = 0;
        mkdir(path, 0755);
        *s = '/';
    }
    FILE *f = fopen(path, "wb");
    cr_assert(f, "%s", path);
    cr_assert_eq(fwrite(bytes, 1, (size_t)n, f), (size_t)n);
    fclose(f);
    return path;
}

/* Copies a mock to scratch/where                                                */
static inline char *install(const char *mock, const char *where)
{
    long n;
    char *from = mock_path(mock);
    unsigned char *bytes = bytes_of(from, &n);
    char *path = put(where, bytes, n);
    free(bytes);
    free(from);
    return path;
}

#endif
