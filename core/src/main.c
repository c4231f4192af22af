#include "core.h"
#include <string.h>

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--version")) puts("chimera " CHIMERA_VERSION);
    return 0;
}
