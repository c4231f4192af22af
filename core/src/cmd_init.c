/* cmd_init.c - chimera init.                                                          */
#include <stdlib.h>

#include "cli.h"
#include "core.h"
#include "init.h"

static const char *out;

static const struct cli_flag flags[] = {
    { "output", 'o', CLI_TEXT, &out, "DIR",
      "the folder of the model (default: the configuration's name without .ini)" },
    CLI_FLAGS_END
};

static chi_status run_init(const struct cli_args *a)
{
    struct init_request r = { .subject = a->word[0], .override = a->override, .n_override = a->n_override,
                              .out = out };
    int signal = 0;
    chi_status s = init_model(&r, &signal);
    if (s == CHI_OK || !signal) return s;
    note("stopped: nothing is written");
    exit(128 + signal);
}

const struct verb verb_init = {
    .name = "init", .usage = "CONF [section.key=value ...]",
    .summary = "write a model with start weights, of any size, in little memory",
    .doc = "Writes DIR/model.b158, and DIR/model_experts.b158 if the model has experts: the very numbers that\n"
           "chimera train CONF would begin with, in the bytes that chimera convert would make of them.  run.seed\n"
           "decides them.  They are drawn, quantised and encoded in blocks of rows on all threads, so memory\n"
           "holds a block, not the model.\n"
           "\n"
           "generate, eval, inspect, bench, kernels, convert and export take DIR in the place of a run.  The\n"
           "files appear under their names when they are whole.",
    .examples = "chimera init conf/chimera-5.1.ini -o full\n"
                "chimera generate full --ids \"1 2 3\" -n 20\n"
                "chimera inspect full\n"
                "chimera init conf/tiny.ini run.seed=7 linear.encoding=tl2 -o tiny\n",
    .flags = flags, .min_words = 1, .max_words = 1, .run = run_init,
};
