/* main.c - the program: its verbs and what it says about itself.                */
#include "cli.h"
#include "core.h"
#include "spec.h"

const struct verb *const verbs[] = {
    &verb_train, &verb_generate, &verb_eval, &verb_config, &verb_plugins, NULL
};

static void version(FILE *f)
{
    fprintf(f, "chimera " CHIMERA_VERSION "\nplugin ABI %d.%d\ncompiler %s\n", CHI_ABI_MAJOR, CHI_ABI_MINOR,
#ifdef __clang__
            __VERSION__);
#else
            "gcc " __VERSION__);
#endif
}

static void man(FILE *f)
{
    man_print(f, verbs, core_sections);
}

int main(int argc, char **argv)
{
    return cli_main(argc, argv, verbs, version, man);
}
