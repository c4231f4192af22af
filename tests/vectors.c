/* vectors.c - runs files of reference vectors: vectors FILE...
 * Exit code: 0 all passed, 77 a component of a file is not there, else as the
 * program's.                                                                   */
#include "core.h"
#include "vectors.h"

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        printf("%s\n", argv[i]);
        chi_status e = vectors_check(argv[i], stdout);
        fflush(stdout);
        if (e == CHI_OK) continue;
        fprintf(stderr, "vectors: %s\n", fail_text());
        return e == CHI_EPLUGIN ? 77 : exit_code(e);
    }
    return argc > 1 ? 0 : 2;
}
