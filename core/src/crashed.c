/* crashed.c - see crashed.h.  A line a file: device, inode, size, seconds, nanoseconds, path.  */
#include "crashed.h"

#include "core.h"
#include "fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINES_MAX = 1000, KEY = 128 };

static char *cache_file(void)
{
    char *folder = fs_cache_folder(), *file = folder ? xprintf("%s/scan", folder) : NULL;
    free(folder);
    return file;
}

/* The beginning of the file's line, up to its path                                        */
static void key_of(const struct stat *st, char key[KEY])
{
    snprintf(key, KEY, "%llu %llu %lld %lld.%09ld ", (unsigned long long)st->st_dev, (unsigned long long)st->st_ino,
             (long long)st->st_size, (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
}

char *crashed_before(const struct stat *st)
{
    char key[KEY], line[4352];
    char *file = cache_file();
    FILE *f = file ? fopen(file, "re") : NULL;
    bool found = false;
    key_of(st, key);
    while (f && !found && fgets(line, sizeof line, f)) found = !strncmp(line, key, strlen(key));
    if (f) fclose(f);
    if (found) return file;
    free(file);
    return NULL;
}

/* Its parents, too; those that are there are left alone                                   */
static void make_folder(char *folder)
{
    for (char *s = strchr(folder + 1, '/'); s; s = strchr(s + 1, '/')) {
        *s = 0;
        mkdir(folder, 0700);
        *s = '/';
    }
    mkdir(folder, 0700);
}

/* Writes the file anew without the line of key, and with line if it is not NULL: complete or
 * not at all                                                                              */
static void rewrite(const char *file, const char *key, const char *line)
{
    char *fresh = xprintf("%s.%ld", file, (long)getpid()), old[4352];
    FILE *from = fopen(file, "re"), *to = fopen(fresh, "we");
    int lines = 0;
    while (from && to && fgets(old, sizeof old, from) && lines++ < LINES_MAX)
        if (strncmp(old, key, strlen(key)) != 0) fputs(old, to);
    if (to && line) fputs(line, to);
    if (from) fclose(from);
    if (!to || fclose(to) != 0 || rename(fresh, file) != 0) unlink(fresh);
    free(fresh);
}

void crashed_remember(const struct stat *st, const char *path)
{
    char key[KEY], *folder = fs_cache_folder(), *file = cache_file();
    if (folder && !strchr(path, '\n') && strlen(path) < 4096) {
        key_of(st, key);
        make_folder(folder);
        char *line = xprintf("%s%s\n", key, path);
        rewrite(file, key, line);
        free(line);
    }
    free(folder);
    free(file);
}

void crashed_forget(const struct stat *st)
{
    char key[KEY], *file = crashed_before(st);
    if (!file) return;
    key_of(st, key);
    rewrite(file, key, NULL);
    free(file);
}
