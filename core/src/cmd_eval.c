/* cmd_eval.c - chimera eval.                                                         */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "core.h"
#include "dataset.h"
#include "progress.h"
#include "run.h"

static int64_t limit, chunk = 512;
static const char *format = "text", *split = "heldout";

static const struct cli_flag flags[] = {
    { "limit", 'l', CLI_INT, &limit, "BYTES", "measure on the first BYTES only; 0: on all" },
    { "split", 0, CLI_TEXT, &split, "NAME", "heldout, or train" },
    { "chunk", 0, CLI_INT, &chunk, "ROWS", "rows of one call; changes speed and memory, never a result" },
    { "output", 'o', CLI_TEXT, &format, "FORMAT", "text, or json" },
    CLI_FLAGS_END
};

static void show(void *ctx, int64_t done, int64_t total)
{
    progress_part(ctx, "held-out data", done, total);
}

static void print_result(const struct eval_result *e, bool json)
{
    if (json)
        printf("{\"split\":\"%s\",\"bits_per_byte\":%.9g,\"loss\":%.9g,\"documents\":%lld,\"bytes\":%lld,"
               "\"tokens\":%lld}\n", split, e->bits_per_byte, e->loss, (long long)e->documents,
               (long long)e->bytes, (long long)e->tokens);
    else
        printf("bits per byte  %.4f\nloss           %.4f nats a token\ndocuments      %lld\nbytes          "
               "%lld\ntokens         %lld\n", e->bits_per_byte, e->loss, (long long)e->documents,
               (long long)e->bytes, (long long)e->tokens);
}

static void print_accuracy(const struct eval_result *e, bool json)
{
    const struct eval_slice *s = e->slice;
    double accuracy = eval_accuracy(e->right, e->scored);
    if (json)
        printf("{\"split\":\"%s\",\"accuracy\":%.9g,\"loss\":%.9g,\"examples\":%lld,\"scored\":%lld,\"tokens\":%lld", split,
               accuracy, e->loss, (long long)e->documents, (long long)e->scored, (long long)e->tokens);
    else
        printf("accuracy       %.4f\nloss           %.4f nats a scored row\nexamples       %lld\nscored rows    %lld of "
               "%lld\n", accuracy, e->loss, (long long)e->documents, (long long)e->scored, (long long)e->tokens);
    for (int64_t i = 0; i < e->n_slice; i++) {
        if (!s[i].scored) continue;
        double part = eval_accuracy(s[i].right, s[i].scored);
        if (json) printf(",\"accuracy.%s\":%.9g", s[i].name, part);
        else printf("  %-12s %.4f of %lld\n", s[i].name, part, (long long)s[i].scored);
    }
    if (json) puts("}");
}

static chi_status run_eval(const struct cli_args *a)
{
    struct spec *spec = NULL;
    struct model *model = NULL;
    struct dataset *data = NULL;
    struct eval_result e;
    struct progress p;
    bool json = !strcmp(format, "json"), train = !strcmp(split, "train");
    if (!json && strcmp(format, "text")) return fail(CHI_ECONF, "--output %s: want text or json", format);
    if (!train && strcmp(split, "heldout"))
        return fail(CHI_ECONF, "--split %s: want heldout or train", split);
    if (chunk < 1 || chunk > 1 << 20) return fail(CHI_ECONF, "--chunk %lld: want 1..1048576", (long long)chunk);
    if (limit < 0) return fail(CHI_ECONF, "--limit %lld: want 0 or more", (long long)limit);
    chi_status s = run_load_model(a->word[0], a->override, a->n_override,
                                  SPEC_MODEL | SPEC_TRAIN | SPEC_DATA | SPEC_TOKENIZER, chunk,
                                  min_i64(chunk, 16), &spec, &model);
    progress_begin(&p, 0);
    if (s == CHI_OK) s = dataset_open(&data, spec);
    if (s == CHI_OK)
        s = evaluate(model, data, train ? CHI_SPLIT_TRAIN : CHI_SPLIT_HELDOUT, limit, &e, show, &p);
    progress_end(&p);
    if (s == CHI_OK && e.examples) print_accuracy(&e, json);
    else if (s == CHI_OK) print_result(&e, json);
    dataset_close(data);
    model_close(model);
    spec_close(spec);
    return s;
}

const struct verb verb_eval = {
    .name = "eval", .usage = "RUN [section.key=value ...]",
    .summary = "measure a run's held-out bits per byte, or its accuracy",
    .doc = "Reads the documents that [task] holds out, each from its start to its end, with the run's\n"
           "newest weights, and prints bits per byte: the sum of -log2 p(token), ends of documents\n"
           "included, over the bytes.  For a task that makes examples it prints accuracy, which is how\n"
           "often the target has the largest logit, the loss, and the accuracy of each slice.\n"
           "Neither --chunk nor threads change a digit.",
    .examples = "chimera eval runs/quickstart\n"
                "chimera eval runs/quickstart --limit 100000 -o json\n"
                "chimera eval runs/quickstart task.heldout=README.md\n",
    .flags = flags, .min_words = 1, .max_words = 1, .run = run_eval,
};
