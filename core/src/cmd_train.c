/* cmd_train.c - chimera train.                                                       */
#include <signal.h>
#include <stdlib.h>

#include "cli.h"
#include "core.h"
#include "run.h"
#include "trainer.h"

static bool resume, fresh, dry_run;
static const char *trace;

static const struct cli_flag flags[] = {
    { "resume", 'r', CLI_SWITCH, &resume, NULL, "go on from the newest checkpoint, if there is one" },
    { "fresh", 0, CLI_SWITCH, &fresh, NULL, "move a run folder that is in the way aside" },
    { "dry-run", 'n', CLI_SWITCH, &dry_run, NULL, "print parameters, memory, tokens and steps, and stop" },
    { "trace", 0, CLI_TEXT, &trace, "DIR", "write weights, batches and losses of the first steps to DIR" },
    CLI_FLAGS_END
};

static chi_status run_train(const struct cli_args *a)
{
    int signal = 0;
    if (resume && fresh)
        return fail(CHI_ECONF, "--resume goes on and --fresh begins anew: give one of them");
    struct train_request q = {
        .subject = a->word[0], .override = a->override, .n_override = a->n_override,
        .resume = resume || (!fresh && run_is_folder(a->word[0])), .fresh = fresh, .dry_run = dry_run, .trace = trace,
    };
    TRY(train(&q, &signal));
    if (signal && signal != SIGUSR1) exit(128 + signal);
    return CHI_OK;
}

const struct verb verb_train = {
    .name = "train", .usage = "CONF|RUN [section.key=value ...]",
    .summary = "train a model that an INI file describes",
    .doc = "Trains the model of CONF on its data and writes the run folder [run] dir: weights in\n"
           "ckpt/, a line of numbers for every step in metrics.jsonl, held-out bits per byte at the end.\n"
           "\n"
           "A folder with checkpoints is never overwritten: --resume goes on with them and ends with\n"
           "the very bits that an uninterrupted run would have had; --fresh moves the folder aside.\n"
           "SIGINT, SIGTERM and SIGUSR1 save and stop; a second one quits at once.\n"
           "\n"
           "With train.minutes the first steps are timed, and train.steps becomes what fits, at most\n"
           "what it was; the run's config.ini records the number.\n"
           "\n"
           "--trace DIR writes what another program needs to take the first train.trace_steps steps again:\n"
           "configuration, weights before and after, batches, and each step's loss (doc/run-folder.md).",
    .examples = "chimera train conf/quickstart.ini\n"
                "chimera train conf/quickstart.ini train.steps=200 run.dir=runs/short\n"
                "chimera train conf/quickstart.ini --resume\n"
                "chimera train conf/quickstart.ini --dry-run\n"
                "chimera train conf/quickstart.ini --trace trace train.steps=20\n",
    .flags = flags, .min_words = 1, .max_words = 1, .run = run_train,
};
