/* cmd_convert.c - chimera convert.                                                    */
#include <stdlib.h>

#include "cli.h"
#include "convert.h"
#include "core.h"
#include "signals.h"

static struct cli_texts encodings;
static const char *out;
static bool requantize;

static const struct cli_flag flags[] = {
    { "encoding", 'e', CLI_TEXTS, &encodings, "ENCODING", "for all weights of the value class that [linear] has; as "
      "PATTERN=ENCODING for those whose names match ('*' is any text; embed is the embedding); may be repeated, the "
      "last that fits wins" },
    { "output", 'o', CLI_TEXT, &out, "FILE", "the packed model (default: the run's name and .b158)" },
    { "requantize", 0, CLI_SWITCH, &requantize, NULL,
      "where an encoding cannot hold the numbers, take the nearest that it can, and report the error" },
    CLI_VERIFY,
    CLI_FLAGS_END
};

static chi_status run_convert(const struct cli_args *a)
{
    struct convert_request r = { .subject = a->word[0], .override = a->override, .n_override = a->n_override,
                                 .encoding = encodings.v, .n_encoding = encodings.n, .out = out,
                                 .requantize = requantize };
    signals_catch();
    chi_status s = convert(&r, stdout);
    signals_release();
    free(encodings.v);
    encodings = (struct cli_texts){ .n = 0 };
    if (s == CHI_OK || !signals_pending()) return s;
    note("stopped: nothing is written");
    exit(128 + signals_pending());
}

const struct verb verb_convert = {
    .name = "convert", .usage = "RUN|CHECKPOINT|FILE [section.key=value ...]",
    .summary = "pack a model's weights into a file, or change their encoding",
    .doc = "Writes a packed model: one file with the configuration and with the weights in the bytes of\n"
           "their encodings, which generate, eval and inspect take in the place of a run, and, if the model has\n"
           "experts, a second one beside it, NAME_experts.b158.  They hold no masters, so\n"
           "nobody can train them further.  Sources are a run (its newest checkpoint), one checkpoint's\n"
           "folder, or another packed model.\n"
           "\n"
           "Without -e each matrix stays in the encoding that the configuration gives it.  Another\n"
           "encoding is exact or it is refused: the same numbers in the same groups, multiplied by the\n"
           "same arithmetic, so that every logit has the same bits.  doc/formats.md tells which pairs\n"
           "are.  --requantize accepts a loss; the column error is |W' - W| / |W|.",
    .examples = "chimera convert runs/quickstart -e tl2\n"
                "chimera convert runs/quickstart -e tl2 -e embed=bf16 --requantize -o small.b158\n"
                "chimera convert small.b158 -e ternary2 -o again.b158\n"
                "chimera eval small.b158\n",
    .flags = flags, .min_words = 1, .max_words = 1, .run = run_convert,
};
