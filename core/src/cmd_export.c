/* cmd_export.c - chimera export.                                                                              */
#include <stdlib.h>

#include "cli.h"
#include "core.h"
#include "export.h"
#include "signals.h"

static const char *out, *as, *architecture;
static bool dequantised;

static const struct cli_flag flags[] = {
    { "output", 'o', CLI_TEXT, &out, "FILE", "NAME.gguf or NAME.safetensors" },
    { "as", 0, CLI_TEXT, &as, "TYPE",
      "GGUF: tq1_0, tq2_0, f16 or f32 for all matrices that it holds exactly (without it "
      "tq2_0); the others go out as F16 where that is exact, else as F32" },
    { "architecture", 0, CLI_TEXT, &architecture, "NAME",
      "GGUF: llama, for a model of attention and swiglu, which llama.cpp then runs" },
    { "dequantised", 0, CLI_SWITCH, &dequantised, NULL,
      "safetensors of a run: the numbers that the model computes with, "
      "not the masters that training works on" },
    CLI_FLAGS_END
};

static chi_status run_export(const struct cli_args *a)
{
    struct export_request r = { .subject = a->word[0], .override = a->override, .n_override = a->n_override,
                                .out = out,
                                .as = as, .architecture = architecture, .dequantised = dequantised };
    if (!out) return fail(CHI_ECONF, "export: -o NAME.gguf or -o NAME.safetensors is missing");
    signals_catch();
    chi_status s = export_model(&r, stdout);
    signals_release();
    if (s == CHI_OK || !signals_pending()) return s;
    note("stopped: nothing is written");
    exit(128 + signals_pending());
}

const struct verb verb_export = {
    .name = "export", .usage = "RUN|CHECKPOINT|FILE -o OUT [section.key=value ...]",
    .summary = "write a model as GGUF, or as safetensors with floats",
    .doc = "GGUF: every tensor under its own name, ternary matrices as TQ2_0 or TQ1_0 where these blocks hold\n"
           "them exactly, else as F16 (scale times trit is exact there), else as F32; each matrix has a line\n"
           "that says which and why.  The configuration travels along, so chimera import makes of the file the\n"
           "packed model that gives the same logits bit for bit.  --architecture llama writes the names and keys\n"
           "that llama.cpp runs instead, which do not come back.\n"
           "\n"
           "Safetensors: F32 under the same names: the masters of a run, with which chimera import begins\n"
           "a new run, or the dequantised numbers of a packed model, of which it makes that model again.\n"
           "doc/import-export.md describes the files.",
    .examples = "chimera export runs/quickstart -o quickstart.gguf\n"
                "chimera export model.b158 -o model.gguf --as tq1_0\n"
                "chimera export runs/attention -o attention.gguf --architecture llama\n"
                "chimera export runs/quickstart -o masters.safetensors\n"
                "chimera import quickstart.gguf -o again.b158\n",
    .flags = flags, .min_words = 1, .max_words = 1, .run = run_export,
};
