/* choice: scores of choices are those of each choice read alone, its context not counted; what it refuses. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "choices.h"
#include "core.h"
#include "fs.h"
#include "hosting.h"
#include "pool.h"
#include "scratch.h"

enum { VOCAB = 257, END = 256, ROWS = 400 };
static char dir[SCRATCH_SIZE];

static char *at(const char *name)
{
    return xprintf("%s/%s", dir, name);
}

static void put(const char *name, const char *text)
{
    char *path = at(name);
    FILE *f = fopen(path, "w");
    cr_assert(f && fputs(text, f) >= 0 && !fclose(f));
    free(path);
}

static void begin(void)
{
    make_scratch(dir);
    put("train.jsonl", "{\"context\": \"one\", \"choices\": [\"two\", \"three\"], \"answer\": 1}\n");
}

static void end(void)
{
    fs_remove_tree(dir);
}

TestSuite(choice, .init = begin, .fini = end);

/* ---- opening ------------------------------------------------------------------------------------ */

struct open { struct spec *spec; struct dataset *data; };

static chi_status try_open(struct open *o, const char *options)
{
    struct config *c;
    char *text = xprintf("[model]\nhidden_size = 16\nnum_hidden_layers = 2\nvocab_size = 257\nlayer_pattern = GD\n"
                         "ffn_pattern = MLP\n[layer.GD]\nuse = gated_deltanet\nnum_heads = 2\nhead_dim = 8\n[layer.MLP]\n"
                         "use = swiglu\nintermediate_size = 32\n[train]\nbatch_size = 2\nseq_len = 20\n[data]\n"
                         "task = choice\n[task]\n%s", options);
    cr_assert_eq(config_load_text(&c, "test", text, NULL, 0), CHI_OK, "%s", fail_text());
    free(text);
    cr_assert_eq(spec_open(&o->spec, c, SPEC_MODEL | SPEC_TRAIN | SPEC_DATA | SPEC_TOKENIZER), CHI_OK, "%s",
                 fail_text());
    return dataset_open(&o->data, o->spec);
}

static void close_task(struct open *o)
{
    dataset_close(o->data);
    spec_close(o->spec);
}

static char *heldout(const char *more)
{
    return xprintf("heldout = %s/heldout.jsonl\n%s", dir, more);
}

/* ---- one choice at a time ----------------------------------------------------------------------- */

static const char *const context[] = { "The sky is", "Two and two are", "", "A" };
static const char *const choice[][3] = {
    { "blue", "made of a very old cheese", NULL }, { "4", "3 and a half, as everybody knows", "four" },
    { "the first of all words", "x", NULL }, { "b", "bbbbbbbb", "c d e f" },
};
static const int right[] = { 1, 1, 0, 2 };
enum { QUESTIONS = 4 };

static void write_questions(void)
{
    char *text = xstrdup("");
    for (int q = 0; q < QUESTIONS; q++) {
        char *more = xprintf("%s{\"%s\": \"%s\", \"choices\": [\"%s\", \"%s\"%s%s%s], \"answer\": %d, \"slice\": "
                             "\"%s\"}\n", text,
                             q % 2 ? "question" : "context", context[q], choice[q][0], choice[q][1],
                             choice[q][2] ? ", \"" : "", choice[q][2] ? choice[q][2] : "", choice[q][2] ? "\"" : "",
                             right[q], q < 2 ? "early" : "late");
        free(text);
        text = more;
    }
    put("heldout.jsonl", text);
    free(text);
}

struct scorer {
    const struct spec *spec;
    struct model *m;
    struct chi_host *h;
    float hidden[ROWS * 16], logit[VOCAB];
    unsigned char *state;
};

/* Nats of the choice's bytes, each row by itself, as the objective says and (*plain) by the formula       */
static double nats_of(struct scorer *s, const char *ctx, const char *text, bool space, double *plain)
{
    const struct chi_objective_ops *loss = s->spec->objective.component->ops;
    char *whole = xprintf("%s%s%s", ctx, space ? " " : "", text);
    int64_t n = (int64_t)strlen(whole), first = (int64_t)strlen(ctx);
    int32_t token[ROWS] = { END };
    double nats = 0;
    *plain = 0;
    for (int64_t i = 0; i < n; i++) token[i + 1] = (unsigned char)whole[i];
    memset(s->state, 0, (size_t)model_state_bytes(s->m));
    struct model_segment seg = { .tokens = token, .rows = n, .fresh = true, .state = s->state };
    cr_assert_eq(model_forward(s->m, &seg, 1, s->hidden), CHI_OK, "%s", fail_text());
    for (int64_t i = first; i < n; i++) {
        double sum = 0;
        cr_assert_eq(model_logits(s->m, s->hidden + i * 16, 1, s->logit), CHI_OK);
        cr_assert_eq(loss->loss(s->h, s->spec->objective.conf, s->logit, token + i + 1, 1, VOCAB, 1, NULL, &nats),
                     CHI_OK);
        for (int j = 0; j < VOCAB; j++) sum += exp(s->logit[j]);
        *plain += log(sum) - s->logit[token[i + 1]];
    }
    free(whole);
    return nats;
}

static void open_scorer(struct scorer *s, const struct open *o, int64_t rows, int64_t segs)
{
    *s = (struct scorer){ .spec = o->spec, .h = host_open(o->spec, "objective") };
    cr_assert_eq(model_open(&s->m, o->spec, MODEL_INFER, rows, segs), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_init(s->m, 11), CHI_OK);
    s->state = mem_take((size_t)model_state_bytes(s->m) + 64, "a stream");
}

static void close_scorer(struct scorer *s)
{
    mem_free(s->state);
    host_close(s->h);
    model_close(s->m);
}

/* Every choice of every question alone: nats[] in order, and how many answers are right                     */
static void score_alone(struct scorer *s, bool space, double *nats, int64_t *sum, int64_t *norm)
{
    int64_t n = 0;
    *sum = *norm = 0;
    for (int q = 0; q < QUESTIONS; q++) {
        int best = 0, best_norm = 0;
        double least = INFINITY, least_norm = INFINITY;
        for (int k = 0; k < 3 && choice[q][k]; k++) {
            double plain, l = nats_of(s, context[q], choice[q][k], space, &plain),
                per = l / (double)strlen(choice[q][k]);
            cr_assert_float_eq(l, plain, 1e-4, "objective %.9g, formula %.9g", l, plain);
            nats[n++] = l;
            if (l < least) least = l, best = k;
            if (per < least_norm) least_norm = per, best_norm = k;
        }
        *sum += best == right[q];
        *norm += best_norm == right[q];
    }
}

static void check_scores(bool space, int64_t rows, int64_t segs)
{
    struct open o;
    struct scorer alone;
    struct model *m;
    struct eval_result e;
    double nats[16];
    int64_t sum, norm;
    write_questions();
    char *options = heldout(space ? "" : "space = no\n");
    cr_assert_eq(try_open(&o, options), CHI_OK, "%s", fail_text());
    free(options);
    open_scorer(&alone, &o, ROWS, 1);
    score_alone(&alone, space, nats, &sum, &norm);
    if (space) cr_assert_neq(sum, norm, "the questions must tell acc from acc_norm");
    close_scorer(&alone);
    cr_assert_eq(model_open(&m, o.spec, MODEL_INFER, rows, segs), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_init(m, 11), CHI_OK);
    cr_assert_eq(evaluate(m, o.data, CHI_SPLIT_HELDOUT, 0, &e, NULL, NULL), CHI_OK, "%s", fail_text());
    cr_assert(e.questions == QUESTIONS && e.documents == 10 && e.choice_nats);
    cr_assert_arr_eq(e.choice_nats, nats, 10 * sizeof *nats);
    cr_assert_eq(e.right, sum);
    cr_assert_eq(e.right_norm, norm);
    cr_assert(e.n_slice == 2 && e.slice[0].scored == 2 && e.slice[1].scored == 2);
    cr_assert_str_eq(e.slice[1].name, "late");
    cr_assert_eq(e.slice[0].right + e.slice[1].right, sum);
    cr_assert_eq(e.slice[0].right_norm + e.slice[1].right_norm, norm);
    eval_free(&e);
    model_close(m);
    close_task(&o);
}

Test(choice, scores_are_those_of_each_choice_alone) { check_scores(true, 64, 16); }
Test(choice, scores_do_not_depend_on_the_cut) { check_scores(true, 3, 3); }
Test(choice, no_space_between_context_and_choice) { check_scores(false, 200, 7); }

Test(choice, scores_are_the_same_with_three_threads)
{
    pool_threads(3);
    check_scores(true, 64, 16);
}

Test(choice, standard_errors)
{
    cr_assert_float_eq(rate_error(1, 4), sqrt(0.25 * 0.75 / 4), 1e-15);
    cr_assert_eq(rate_error(0, 7), 0);
    cr_assert_eq(rate_error(0, 0), 0);
}

/* ---- training ------------------------------------------------------------------------------------ */

Test(choice, training_reads_the_right_choice)
{
    struct open o;
    struct batch b;
    struct cursor c = { 0, 0 };
    char *options = xprintf("train = %s/train.jsonl\n", dir);
    cr_assert_eq(try_open(&o, options), CHI_OK, "%s", fail_text());
    free(options);
    cr_assert_eq(dataset_can_train(o.data), CHI_OK);
    cr_assert_eq(dataset_documents(o.data, CHI_SPLIT_TRAIN), 1);
    cr_assert_eq(dataset_batch(o.data, &c, &b), CHI_OK);
    cr_assert_eq(b.scored, 40);
    const char *text = "one three";
    for (int i = 0; text[i]; i++) cr_assert_eq(b.target[i], text[i]);
    cr_assert_eq(b.target[9], END);
    batch_free(&b);
    close_task(&o);
}

Test(choice, nothing_to_train_on)
{
    struct open o;
    put("heldout.jsonl", "{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 1}\n");
    char *options = heldout("");
    cr_assert_eq(try_open(&o, options), CHI_OK, "%s", fail_text());
    cr_assert_eq(dataset_can_train(o.data), CHI_EDATA);
    free(options);
    close_task(&o);
}

/* ---- what is refused ------------------------------------------------------------------------------ */

static void refuses(const char *line, const char *words)
{
    struct open o;
    char *text = xprintf("{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 1}\n\n%s\n", line),
        *options = heldout("");
    put("heldout.jsonl", text);
    cr_assert_eq(try_open(&o, options), CHI_EDATA, "%s", line);
    cr_assert(strstr(fail_text(), "heldout.jsonl:3: "), "%s: %s", line, fail_text());
    cr_assert(strstr(fail_text(), words), "%s: %s", line, fail_text());
    spec_close(o.spec);
    free(options);
    free(text);
}

Test(choice, bad_lines)
{
    refuses("{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 2}",
            "found the answer 2, wanted the index of a choice, 0..1");
    refuses("{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": -1}", "found the answer -1");
    refuses("{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 0.5}", "found the answer 0.5");
    refuses("{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 1e300}", "found the answer 1e+300");
    refuses("{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": \"c\"}", "found a text as \"answer\"");
    refuses("{\"context\": \"a\", \"choices\": [\"b\", \"c\"]}", "found nothing as \"answer\"");
    refuses("{\"context\": \"a\", \"choices\": [\"b\"], \"answer\": 0}", "a list of less than 2");
    refuses("{\"context\": \"a\", \"choices\": \"b\", \"answer\": 0}", "found a text as \"choices\"");
    refuses("{\"context\": \"a\", \"choices\": [\"b\", 3], \"answer\": 0}", "found a number as choice 1");
    refuses("{\"context\": \"a\", \"choices\": [\"b\", \"\"], \"answer\": 0}", "found an empty text as choice 1");
    refuses("{\"choices\": [\"b\", \"c\"], \"answer\": 0}", "found nothing as \"context\"");
    refuses("{\"context\": [], \"choices\": [\"b\", \"c\"], \"answer\": 0}", "found a list as \"context\"");
    refuses("{\"question\": 1, \"choices\": [\"b\", \"c\"], \"answer\": 0}", "found a number as \"question\"");
    refuses("{\"question\": \"q\", \"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 0}",
            "wanted one of them");
    refuses("{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 0, \"slice\": \"A b\"}",
            "found 'A b' as \"slice\"");
    refuses("{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 0, \"slice\": 3}",
            "found a number as \"slice\"");
    refuses("[1]", "found a list, wanted an object");
    refuses("{\"context\": \"a\", ", "no JSON");
    refuses("{\"context\": \"a\", \"context\": \"b\"}", "twice");
    refuses("{} {}", "something follows");
    refuses("{\"context\": \"\xff\"}", "not UTF-8");
}

Test(choice, files_that_cannot_be_meant)
{
    struct open o;
    put("heldout.jsonl", "\n \n");
    char *options = heldout(""), *both = xprintf("train = %s\nheldout = %s/train.jsonl\n", dir, dir);
    cr_assert_eq(try_open(&o, options), CHI_EDATA);
    cr_assert(strstr(fail_text(), "found no question"), "%s", fail_text());
    spec_close(o.spec);
    cr_assert_eq(try_open(&o, ""), CHI_ECONF);
    spec_close(o.spec);
    char *path = at("heldout.jsonl");
    remove(path);
    cr_assert_eq(try_open(&o, both), CHI_EDATA);
    cr_assert(strstr(fail_text(), "is in both"), "%s", fail_text());
    spec_close(o.spec);
    free(path);
    free(options);
    free(both);
}
