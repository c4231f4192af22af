/* cmd_bench.c - `chimera bench`: speeds of a configuration, and of the kernels themselves.   */
#include "bench.h"
#include "bench_kernels.h"
#include "cli.h"
#include "core.h"
#include "pool.h"
#include "run.h"

#include <string.h>

static bool train, reading, learn, kernels, layers, whole, profile, json;
static const char *out;
static int64_t steps = 10, context;

/* The kernel that this machine's backends would use; NULL: only the portable one                 */
static const struct chi_linear_kernel *fast_kernel(const struct spec *spec, const char *encoding)
{
    for (const struct chi_component **c = spec->backend; *c; c++) {
        const struct chi_backend_ops *ops = (*c)->ops;
        for (int i = 0; ops->linears && ops->linears[i]; i++)
            if (!strcmp(ops->linears[i]->encoding, encoding) && !ops->linears[i]->pack) return ops->linears[i];
    }
    return NULL;
}

/* ternary2, portable or not, then the other ternary encodings that have a fast kernel            */
static chi_status find_linears(const struct spec *spec, struct bench_kernels *k)
{
    const struct chi_component *c;
    TRY(registry_find(spec->registry, CHI_ENCODING, "ternary2", &c));
    k->linear[0] = (struct bench_linear){ c->name, c->ops, fast_kernel(spec, c->name) };
    if (!k->linear[0].kernel) k->linear[0].kernel = k->linear[0].encoding->portable;
    k->n_linears = 1;
    for (int64_t i = 0; (c = registry_component(spec->registry, CHI_ENCODING, i)); i++) {
        struct bench_linear l = { c->name, c->ops, fast_kernel(spec, c->name) };
        bool holds = !strcmp(l.encoding->values, "ternary") && l.encoding->bytes(2560, 2560, 128) > 0;
        if (!l.kernel || !holds || !strcmp(c->name, "ternary2") || k->n_linears == BENCH_LINEARS) continue;
        k->linear[k->n_linears++] = l;
    }
    return CHI_OK;
}

static chi_status run_kernels(const struct bench *b)
{
    struct spec *spec;
    TRY(run_spec(b->subject, b->override, b->n_override, SPEC_MODEL, &spec));
    struct bench_kernels k = { .k = spec->kernels, .threads = b->threads, .json = b->json, .out = stdout };
    chi_status st = find_linears(spec, &k);
    if (st == CHI_OK) st = bench_kernels(&k);
    spec_close(spec);
    return st;
}

/* How many threads the configuration asks for                                                   */
static chi_status wanted_threads(struct bench *b)
{
    struct spec *spec;
    TRY(run_spec(b->subject, b->override, b->n_override, SPEC_MODEL, &spec));
    b->threads = pool_size();
    b->compare = b->threads > 1 && !spec->run.threads;
    spec_close(spec);
    return CHI_OK;
}

static chi_status run(const struct cli_args *a)
{
    struct bench b = { .subject = a->word[0], .override = a->override, .n_override = a->n_override,
                       .steps = steps < 2 ? 2 : steps, .json = json, .context = context, .out = out };
    bool usual = !train && !reading && !learn && !kernels && !layers && !whole && !context && !profile;
    if (out && !profile) return fail(CHI_ECONF, "--out %s: it is for the trace of --profile", out);
    if (steps < 1) return fail(CHI_ECONF, "--steps %lld: must be 1 or more", (long long)steps);
    TRY(wanted_threads(&b));
    if (train || (usual && !run_has_weights(b.subject))) TRY(bench_train(&b));
    if (reading || usual) TRY(bench_read(&b));
    if (learn) TRY(bench_learn(&b));
    if (layers) TRY(bench_layers(&b));
    if (whole) TRY(bench_model(&b));
    if (context) TRY(bench_context(&b));
    if (profile) TRY(bench_profile(&b));
    if (kernels) TRY(run_kernels(&b));
    return CHI_OK;
}

static const struct cli_flag flags[] = {
    { "train", 0, CLI_SWITCH, &train, NULL, "tokens per second of training, on random tokens" },
    { "read", 0, CLI_SWITCH, &reading, NULL, "tokens per second of prefill (256 rows) and of decoding one stream" },
    { "learn", 0, CLI_SWITCH, &learn, NULL,
      "train 200 steps on the configuration's data; fails unless the loss falls" },
    { "layers", 0, CLI_SWITCH, &layers, NULL, "a decode step of each layer beside the bandwidth of reading" },
    { "model", 0, CLI_SWITCH, &whole, NULL,
      "decode, shares, prefill, and 1 to 16 streams of the whole model beside their limits" },
    { "context", 0, CLI_INT, &context, "N", "time per token and memory from 1 token of context to N" },
    { "kernels", 0, CLI_SWITCH, &kernels, NULL, "the kernels beside bandwidth and peaks measured in the same run" },
    { "profile", 0, CLI_SWITCH, &profile, NULL,
      "time, bytes and FLOPs of each component, beside the limits of the machine" },
    { "out", 0, CLI_TEXT, &out, "FILE", "with --profile: every call in Chrome's trace format, for about:tracing or "
      "Perfetto" },
    { "steps", 's', CLI_INT, &steps, "N", "timed steps of each measurement" },
    { "json", 0, CLI_SWITCH, &json, NULL, "an object a line instead of text" },
    CLI_MODE,
    CLI_VERIFY,
    CLI_FLAGS_END
};

const struct verb verb_bench = {
    .name = "bench",
    .usage = "CONF|RUN|FILE.b158 [section.key=value ...]",
    .summary = "measure training, prefill and decoding of a configuration",
    .doc = "Times the configuration's own model at run.threads, or (0) at all cores and at one, alternating in one\n"
           "process, and prints medians and the best. Without a flag: training (not for what has weights), prefill and\n"
           "decoding. Machines are shared and noisy: compare figures of one run, not of two.\n",
    .examples = "chimera bench conf/quickstart.ini\n"
                "chimera bench conf/anchor.ini --train --steps 20 linear.quantizer=ternary\n"
                "chimera bench conf/quickstart.ini --kernels --json\n"
                "chimera bench conf/chimera-5.1.ini --layers\n"
                "chimera bench conf/chimera-5.1.ini --model linear.embed.quantizer=int8\n"
                "chimera bench conf/quickstart.ini --profile --out trace.json\n"
                "chimera bench runs/quickstart\n",
    .flags = flags,
    .min_words = 1, .max_words = 1,
    .run = run
};
