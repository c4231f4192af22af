/* evil_constructor.c - a constructor that writes a file, and a manifest that is refused before. */
#include "mock.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void leave_a_trace(void)
{
    const char *path = getenv("CHIMERA_MOCK_TRACE");
    int fd = path ? open(path, O_CREAT | O_WRONLY, 0600) : -1;
    if (fd >= 0) close(fd);
}

MOCK_OPS;
static const struct chi_component layer = MOCK_LAYER("evil_constructor", .conf_size = 0);
MOCK_PLUGIN(CHI_MAGIC, CHI_ABI_MAJOR + 1, 0, sizeof(struct chi_plugin), CHI_LAYOUT, "evil_constructor", &layer);
