/* cmd_config.c - `chimera config`: what a configuration really says, and where each
 * value comes from; or what one key means.                                      */
#include "cli.h"
#include "core.h"
#include "run.h"
#include "spec.h"

static bool no_origins;

static chi_status run(const struct cli_args *a)
{
    struct spec *spec;
    chi_status status;
    TRY(run_spec(a->word[0], a->override, a->n_override, SPEC_MODEL | SPEC_TRAIN | SPEC_DATA | SPEC_TOKENIZER,
                 &spec));
    if (a->n_word > 1) {
        status = CHI_OK;
        for (int i = 1; i < a->n_word && status == CHI_OK; i++)
            status = config_explain(spec->config, a->word[i], stdout);
    } else {
        config_print(spec->config, stdout, !no_origins);
        status = config_errors(spec->config) ? CHI_ECONF : CHI_OK;
    }
    spec_close(spec);
    return status;
}

static const struct cli_flag flags[] = {
    { "no-origins", 0, CLI_SWITCH, &no_origins, NULL, "leave out where values come from, as runs store it" },
    CLI_FLAGS_END
};

const struct verb verb_config = {
    .name = "config",
    .usage = "CONF|RUN|FILE.b158 [section.key=value ...] [section.key ...]",
    .summary = "print a configuration with every value and its origin",
    .doc = "Reads CONF (of a run or a packed model: what it stores) with its includes and the overrides, checks all of it, and prints every option\n"
           "of every component in use as a valid INI file. A comment after each value says where it\n"
           "comes from: a file and line, the command line, or the default.\n"
           "\n"
           "A word section.key without '=' prints that key's type, range, default and meaning instead.\n",
    .examples = "chimera config conf/quickstart.ini\n"
                "chimera config conf/quickstart.ini train.lr=1e-3 --no-origins > my.ini\n"
                "chimera config conf/quickstart.ini train.lr\n",
    .flags = flags,
    .min_words = 1, .max_words = 16,
    .run = run
};
