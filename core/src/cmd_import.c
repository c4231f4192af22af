/* cmd_import.c - chimera import.                                                                              */
#include <stdlib.h>

#include "cli.h"
#include "core.h"
#include "import.h"
#include "signals.h"

static const char *out, *config;
static struct cli_texts ignore;

static const struct cli_flag flags[] = {
    { "output", 'o', CLI_TEXT, &out, "OUT",
      "the packed model (of GGUF and of dequantised numbers), or the run folder (of "
      "masters and checkpoints)" },
    { "config", 'c', CLI_TEXT, &config, "FILE", "the INI for a safetensors file that brings none" },
    { "ignore", 0, CLI_TEXTS, &ignore, "PATTERN",
      "tensors and keys of config.json that may be left out ('*' is any text); "
      "may be repeated" },
    CLI_FLAGS_END
};

static chi_status run_import(const struct cli_args *a)
{
    struct import_request r = { .subject = a->word[0], .override = a->override, .n_override = a->n_override,
                                .out = out,
                                .config = config, .ignore = ignore.v, .n_ignore = ignore.n };
    signals_catch();
    chi_status s = out ? import_model(&r, stdout) : fail(CHI_ECONF, "import: -o OUT is missing");
    signals_release();
    free(ignore.v);
    ignore = (struct cli_texts){ .n = 0 };
    if (s == CHI_OK || !signals_pending()) return s;
    note("stopped: nothing is written");
    exit(128 + signals_pending());
}

const struct verb verb_import = {
    .name = "import", .usage = "FILE|FOLDER -o OUT [section.key=value ...]",
    .summary = "take over a model: GGUF, safetensors, checkpoints of others",
    .doc = "GGUF, and safetensors with dequantised numbers, as chimera export wrote them: OUT becomes the packed\n"
           "model that they came from; every logit has the same bits.\n"
           "\n"
           "Safetensors with masters: OUT becomes a run folder, from which generate and eval work and which\n"
           "chimera train OUT/config.ini --resume trains on.\n"
           "\n"
           "A folder with config.json and model.safetensors, or model.safetensors.index.json and its parts: the\n"
           "checkpoints of flash-linear-attention's gated_deltanet and of xLSTM-7B, by their own names; OUT\n"
           "becomes a run folder.  Every tensor's shape is checked, keys that cannot be honoured and tensors\n"
           "that nobody knows are refused by name.  doc/import-export.md has the tables of names.",
    .examples = "chimera import quickstart.gguf -o quickstart.b158\n"
                "chimera import masters.safetensors -o runs/again\n"
                "chimera import Downloads/gated-deltanet -o runs/gdn\n"
                "chimera train runs/gdn/config.ini --resume task.train=corpus/train task.heldout=corpus/heldout\n",
    .flags = flags, .min_words = 1, .max_words = 1, .run = run_import,
};
