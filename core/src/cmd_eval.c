/* cmd_eval.c - chimera eval.                                                         */
#include <stdlib.h>
#include <string.h>

#include "choices.h"
#include "cli.h"
#include "core.h"
#include "fs.h"
#include "progress.h"
#include "run.h"

static int64_t limit, chunk = 512;
static const char *format = "text", *split = "heldout", *task, *samples;

static const struct cli_flag flags[] = {
    { "limit", 'l', CLI_INT, &limit, "BYTES", "measure on the first BYTES only; 0: on all" },
    { "task", 't', CLI_TEXT, &task, "NAME",
      "measure on this task, whose options are words task.key=value; the run's [task] is left out" },
    { "samples", 0, CLI_TEXT, &samples, "FILE",
      "of a task with choices: a JSON line for each question, with the log-likelihoods" },
    { "split", 0, CLI_TEXT, &split, "NAME", "heldout, or train" },
    { "chunk", 0, CLI_INT, &chunk, "ROWS", "rows of one call; changes speed and memory, never a result" },
    { "output", 'o', CLI_TEXT, &format, "FORMAT", "text, or json" },
    CLI_MODE,
    CLI_VERIFY,
    CLI_FLAGS_END
};

static void show(void *ctx, int64_t done, int64_t total)
{
    progress_part(ctx, "held-out data", done, total);
}

/* What plugins counted over all of it, and the end                                     */
static void print_meters(const struct eval_result *e, bool json)
{
    for (int64_t i = 0; i < e->n_meter; i++)
        printf(json ? ",\"%s\":%.9g" : "%-26s %.4f\n", e->meter[i].name, e->meter[i].value);
    if (json) puts("}");
}

static void print_result(const struct eval_result *e, bool json)
{
    if (json)
        printf("{\"split\":\"%s\",\"bits_per_byte\":%.9g,\"loss\":%.9g,\"documents\":%lld,\"bytes\":%lld,"
               "\"tokens\":%lld", split, e->bits_per_byte, e->loss, (long long)e->documents,
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
        printf("{\"split\":\"%s\",\"accuracy\":%.9g,\"loss\":%.9g,\"examples\":%lld,\"scored\":%lld,\"tokens\":%lld",
               split, accuracy, e->loss, (long long)e->documents, (long long)e->scored, (long long)e->tokens);
    else
        printf("accuracy       %.4f\nloss           %.4f nats a scored row\nexamples       %lld\nscored rows    "
               "%lld of "
               "%lld\n", accuracy, e->loss, (long long)e->documents, (long long)e->scored, (long long)e->tokens);
    for (int64_t i = 0; i < e->n_slice; i++) {
        if (!s[i].scored) continue;
        double part = eval_accuracy(s[i].right, s[i].scored);
        if (json) printf(",\"accuracy.%s\":%.9g", s[i].name, part);
        else printf("  %-12s %.4f of %lld\n", s[i].name, part, (long long)s[i].scored);
    }
}

static void print_rates(const char *indent, const char *name, const struct eval_slice *s)
{
    printf("%s%-12s  acc %.4f +- %.4f   acc_norm %.4f +- %.4f   of %lld\n", indent, name,
           eval_accuracy(s->right, s->scored),
           rate_error(s->right, s->scored), eval_accuracy(s->right_norm, s->scored),
           rate_error(s->right_norm, s->scored), (long long)s->scored);
}

/* A slice's fields end with ".NAME"                                                    */
static void json_rates(const char *dot, const char *name, const struct eval_slice *s)
{
    printf(",\"questions%s%s\":%lld,\"acc%s%s\":%.9g,\"acc_stderr%s%s\":%.9g,\"acc_norm%s%s\":%.9g,"
           "\"acc_norm_stderr%s%s\":%.9g",
           dot, name, (long long)s->scored, dot, name, eval_accuracy(s->right, s->scored), dot, name,
           rate_error(s->right, s->scored), dot, name, eval_accuracy(s->right_norm, s->scored), dot, name,
           rate_error(s->right_norm, s->scored));
}

static void print_answers(const struct eval_result *e, bool json)
{
    struct eval_slice all = { "", e->questions, e->right, e->right_norm };
    if (json) {
        printf("{\"split\":\"%s\",\"choices\":%lld,\"tokens\":%lld,\"loss\":%.9g", split, (long long)e->documents,
               (long long)e->tokens, e->loss);
        json_rates("", "", &all);
    } else {
        print_rates("", "all", &all);
        for (int64_t i = 0; i < e->n_slice; i++)
            if (e->slice[i].scored) print_rates("  ", e->slice[i].name, &e->slice[i]);
        printf("questions      %lld, of %lld choices\nloss           %.4f nats a token of a choice\n",
               (long long)e->questions, (long long)e->documents, e->loss);
    }
    for (int64_t i = 0; json && i < e->n_slice; i++)
        if (e->slice[i].scored) json_rates(".", e->slice[i].name, &e->slice[i]);
}

static chi_status write_samples(const struct dataset *data, const struct eval_result *e)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (f) choices_write(data, e->choice_nats, e->documents, f);
    chi_status s = f && !fclose(f) ? fs_write_atomic(samples, text, (int64_t)n)
        : fail(CHI_ENOMEM, "no memory for %s", samples);
    free(text);
    return s;
}

static void print(const struct eval_result *e, bool json)
{
    if (e->questions) print_answers(e, json);
    else if (e->examples) print_accuracy(e, json);
    else print_result(e, json);
    print_meters(e, json);
}

static chi_status run_eval(const struct cli_args *a)
{
    struct spec *spec = NULL;
    struct model *model = NULL;
    struct dataset *data = NULL;
    struct eval_result e = { 0 };
    struct progress p;
    bool json = !strcmp(format, "json"), train = !strcmp(split, "train");
    if (!json && strcmp(format, "text")) return fail(CHI_ECONF, "--output %s: want text or json", format);
    if (!train && strcmp(split, "heldout"))
        return fail(CHI_ECONF, "--split %s: want heldout or train", split);
    if (chunk < 1 || chunk > 1 << 20) return fail(CHI_ECONF, "--chunk %lld: want 1..1048576", (long long)chunk);
    if (limit < 0) return fail(CHI_ECONF, "--limit %lld: want 0 or more", (long long)limit);
    if (samples) TRY(fs_can_write(samples));
    chi_status s = run_load_model(a->word[0], a->override, a->n_override, task,
                                  SPEC_MODEL | SPEC_TRAIN | SPEC_DATA | SPEC_TOKENIZER, chunk,
                                  min_i64(chunk, 16), &spec, &model);
    progress_begin(&p, 0);
    if (s == CHI_OK) s = dataset_open(&data, spec);
    if (s == CHI_OK && samples && !dataset_has_choices(data, train ? CHI_SPLIT_TRAIN : CHI_SPLIT_HELDOUT))
        s = fail(CHI_ECONF, "--samples: this task has no choices; it is for questions, such as those of task choice");
    if (s == CHI_OK)
        s = evaluate(model, data, train ? CHI_SPLIT_TRAIN : CHI_SPLIT_HELDOUT, limit, &e, show, &p);
    progress_end(&p);
    if (s == CHI_OK && samples) s = write_samples(data, &e);
    if (s == CHI_OK) print(&e, json);
    eval_free(&e);
    dataset_close(data);
    model_close(model);
    spec_close(spec);
    return s;
}

const struct verb verb_eval = {
    .name = "eval", .usage = "RUN|CHECKPOINT|FILE.b158 [section.key=value ...]",
    .summary = "measure a run's held-out bits per byte, or its accuracy",
    .doc = "Reads the documents that [task] holds out, each from its start to its end, with the run's\n"
           "newest weights, and prints bits per byte: the sum of -log2 p(token), ends of documents\n"
           "included, over the bytes.  For a task that makes examples it prints accuracy, which is how\n"
           "often the target has the largest logit, the loss, and the accuracy of each slice.  For questions\n"
           "with choices (task choice) it prints how often the right choice has the greatest log-likelihood\n"
           "given its context (acc), and how often the greatest per byte (acc_norm), with standard errors.\n"
           "Neither --chunk nor threads change a digit.",
    .examples = "chimera eval runs/quickstart\n"
                "chimera eval runs/quickstart --limit 100000 -o json\n"
                "chimera eval runs/quickstart task.heldout=README.md\n"
                "chimera eval runs/quickstart --task choice task.heldout=questions.jsonl\n",
    .flags = flags, .min_words = 1, .max_words = 1, .run = run_eval,
};
