/* main.c - the program: its verbs and what it says about itself.                */
#include "cli.h"
#include "core.h"
#include "crumb.h"
#include "pool.h"
#include "spec.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

const struct verb *const verbs[] = {
    &verb_init, &verb_train, &verb_sweep, &verb_generate, &verb_eval, &verb_convert, &verb_export, &verb_import,
    &verb_report, &verb_bench, &verb_config,
    &verb_inspect, &verb_kernels, &verb_plugins, &verb_validate, &verb_tokenizer, &verb_new, NULL
};

#ifdef __clang__
# define COMPILER __VERSION__
#else
# define COMPILER "gcc " __VERSION__
#endif

static void version(FILE *f)
{
    char features[128];
    cpu_feature_names(cpu_features(), features);
    fprintf(f, "chimera " CHIMERA_VERSION "\nplugin ABI %d.%d\ncompiler %s\nCPU %s (%s)\n", CHI_ABI_MAJOR,
            CHI_ABI_MINOR, COMPILER, cpu_name(), features);
}

static void man(FILE *f)
{
    man_print(f, verbs, core_sections);
}

/* A closed 0, 1 or 2 would become a file that we open, and get what is printed.  What stands in for it
 * fails as a closed one does: stdin cannot be read, the others cannot be written */
static void fill_standard_files(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd) _exit(1);
}

int main(int argc, char **argv)
{
    fill_standard_files();
    if (argc > 1 && argv[1][0] != '-') pool_begin(argv);
    signal(SIGXFSZ, SIG_IGN);                   /* ulimit -f: write() says EFBIG, and what was begun is removed */
    crash_catch();
    return cli_main(argc, argv, verbs, version, man);
}
