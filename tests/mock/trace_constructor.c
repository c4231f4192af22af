/* trace_constructor.c - a constructor that adds its process to a file, and a good manifest: it must run. */
#include "mock.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void leave_a_trace(void)
{
    const char *path = getenv("CHIMERA_MOCK_TRACE");
    int fd = path ? open(path, O_CREAT | O_WRONLY | O_APPEND, 0600) : -1;
    if (fd < 0) return;
    dprintf(fd, "%ld\n", (long)getpid());
    close(fd);
}

MOCK_OPS;
static const struct chi_component layer = MOCK_LAYER("trace_constructor", .conf_size = 0);
MOCK_NAMED("trace_constructor", &layer);
