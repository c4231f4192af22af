/* test_sweep.c - [sweep] to jobs; the journal with torn and changed lines; stop conditions. */
#include "core.h"
#include "fs.h"
#include "scratch.h"
#include "sweep.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[SCRATCH_SIZE];

static void folder(void)
{
    make_scratch(dir);
}

static void no_folder(void)
{
    fs_remove_tree(dir);
}

static const char base[] =
    "[model]\nlayer_pattern = GD XM GD SK\nffn_pattern = MLP MOE\n"
    "[loop]\nuse = parcae\n[linear]\nquantizer = ternary\ngroup_size = 128\nextra_rmsnorm = yes\nadapter = hgf, lora\n"
    "[linear.embed]\nquantizer = f32\n[sweep]\n";

static chi_status axes_of(struct sweep_axes *a, const char *text)
{
    struct config *c;
    char *all = xprintf("%s%s", base, text);
    chi_status s = config_load_text(&c, "x.ini", all, NULL, 0);
    free(all);
    return s == CHI_OK ? sweep_axes_open(a, c) : s;
}

/* Everything that a job sets, as "section.key=value|..."; "-" for a key that is removed       */
static const char *sets(const struct sweep_axes *a, int64_t job)
{
    static char text[2048];
    *text = 0;
    for (int64_t i = 0; i < a->n_axis; i++) {
        const struct sweep_choice *c = sweep_axes_choice(a, i, job);
        for (int64_t k = 0; k < c->n_set; k++) {
            size_t n = strlen(text);
            snprintf(text + n, sizeof text - n, "%s.%s=%s|", c->set[k].section, c->set[k].key,
                     c->set[k].value ? c->set[k].value : "-");
        }
    }
    return text;
}

static void expect(const char *text, int64_t n, const char *const *want)
{
    struct sweep_axes a;
    cr_assert_eq(axes_of(&a, text), CHI_OK, "%s", fail_text());
    cr_assert_eq(sweep_axes_jobs(&a), n, "%lld jobs", (long long)sweep_axes_jobs(&a));
    for (int64_t i = 0; i < n; i++) cr_expect_str_eq(sets(&a, i), want[i]);
    sweep_axes_close(&a);
}

Test(sweep, grid_is_the_product_and_the_last_axis_is_fastest)
{
    const char *const want[] = {
        "layer.GD.num_heads=2|run.seed=1|", "layer.GD.num_heads=2|run.seed=2|", "layer.GD.num_heads=2|run.seed=3|",
        "layer.GD.num_heads=4|run.seed=1|", "layer.GD.num_heads=4|run.seed=2|", "layer.GD.num_heads=4|run.seed=3|",
    };
    expect("layer.GD.num_heads = 2 | 4\nrun.seed = 1|2 |3\n", 6, want);
}

Test(sweep, a_pair_runs_in_step_and_blanks_stay_in_values)
{
    const char *const want[] = {
        "train.lr=1|model.layer_pattern=GD XM|run.seed=1|", "train.lr=1|model.layer_pattern=GD XM|run.seed=2|",
        "train.lr=2|model.layer_pattern=SK|run.seed=1|", "train.lr=2|model.layer_pattern=SK|run.seed=2|",
    };
    expect("train.lr = 1 | 2\nrun.seed = 1 | 2\nmodel.layer_pattern = GD XM | SK\npair = train.lr, "
           "model.layer_pattern\n", 4, want);
}

Test(sweep, arms_are_rows_of_one_axis_and_may_be_empty)
{
    const char *const want[] = { "run.seed=1|", "train.lr=0.1|loop.use=|run.seed=1|" };
    expect("arm.base =\narm.hot = train.lr = 0.1 & loop.use=\nrun.seed = 1\n", 2, want);
}

Test(sweep, leave_out_takes_parts_away)
{
    const char *const want[] = {
        "",
        "model.layer_pattern=XM SK|",
        "model.layer_pattern=GD GD GD SK|",
        "model.ffn_pattern=MLP|",
        "loop.use=|",
        "linear.group_size=-|linear.quantizer=f32|",
        "linear.group_size=-|linear.quantizer=int8|",
        "linear.adapter=lora|",
        "linear.adapter=hgf wide|",
        "linear.extra_rmsnorm=no|",
        "layer.SK.efla=no|",
    };
    expect("leave_out = GD XM>GD MOE, loop ternary ternary>int8 hgf lora>wide extra_rmsnorm layer.SK.efla\n", 11,
           want);
}

Test(sweep, random_keys_are_drawn_together_by_the_seed_alone)
{
    struct sweep_axes a, b, c;
    const char *text = "train.lr = log 1e-4 .. 1e-2\nlayer.GD.num_heads = int 2..5\nsamples = 64\n";
    cr_assert_eq(axes_of(&a, text), CHI_OK, "%s", fail_text());
    cr_assert_eq(axes_of(&b, "samples = 64\nlayer.GD.num_heads = int 2 .. 5\n"), CHI_OK, "%s", fail_text());
    cr_assert_eq(axes_of(&c, "samples = 64\nsample_seed = 2\nlayer.GD.num_heads = int 2 .. 5\n"), CHI_OK);
    cr_assert_eq(sweep_axes_jobs(&a), 64);
    int64_t seen[8] = { 0 }, low = 0, same = 0;
    for (int64_t i = 0; i < 64; i++) {
        const struct sweep_choice *x = sweep_axes_choice(&a, 0, i);
        double lr = strtod(x->set[0].value, NULL);
        int64_t heads = strtoll(x->set[1].value, NULL, 10);
        cr_assert(lr >= 1e-4 && lr <= 1e-2 && heads >= 2 && heads <= 5);
        low += lr < 1e-3;
        seen[heads]++;
        cr_expect_str_eq(x->set[1].value, sweep_axes_choice(&b, 0, i)->set[0].value, "another key changed a draw");
        same += !strcmp(x->set[1].value, sweep_axes_choice(&c, 0, i)->set[0].value);
    }
    cr_expect(low > 20 && low < 44, "log: %lld of 64 below the middle", (long long)low);
    cr_expect(seen[2] && seen[3] && seen[4] && seen[5] && same < 48);
    sweep_axes_close(&a);
    sweep_axes_close(&b);
    sweep_axes_close(&c);
}

Test(sweep, what_is_wrong_is_said_with_its_line)
{
    static const char *const wrong[][2] = {
        { "train.lr = 1 | | 2\n", "x.ini:14: sweep.train.lr" }, { "train.lr = 1 | 1\n", "there twice" },
        { "run.dir = a | b\n", "cannot be varied" }, { "pair = train.lr\n", "two keys" },
        { "train.lr = 1 | 2\nrun.seed = 1\npair = train.lr, run.seed\n", "x.ini:16: sweep.pair" },
        { "pair = train.lr, run.seed\n", "no grid key" }, { "train.lr = log 0 .. 1\n", "log A .. B" },
        { "train.lr = log 1 .. \n", "log A .. B" }, { "train.lr = uniform 2 .. 1\n", "log A .. B" },
        { "run.seed = int 1 .. 2.5\n", "log A .. B" }, { "arm.a = lr\n", "wanted is section.key=value" },
        { "leave_out = QQ\n", "no QQ to leave out" }, { "leave_out = MLP MOE\nmatch = params\n", "needs match_key" },
        { "match = time\n", "needs minutes" }, { "stop = loss\n", "METRIC < X" },
        { "stop = loss < x\n", "METRIC < X" },
        { "sampels = 3\n", "did you mean samples" }, { "arm.a =\nleave_out = GD\n", "two axes vary arm" },
        { "match = params\nmatch_key = layer.GD.num_heads\nmatch_to = 5x\n", "a number above 0" },
        { "run.seed = int 1 .. 9\nsamples = 9000\ntrain.lr = 1 | 2\n", "more than 10000 jobs" },
        { "model.layer_pattern = GD\nleave_out = GD XM SK GD>GD\n", "" },
    };
    for (int i = 0; i < COUNT(wrong); i++) {
        struct sweep_axes a;
        chi_status s = axes_of(&a, wrong[i][0]);
        if (*wrong[i][1]) {
            cr_expect_eq(s, CHI_ECONF, "%s", wrong[i][0]);
            cr_expect(strstr(fail_text(), wrong[i][1]), "%s: %s", wrong[i][0], fail_text());
        } else cr_expect_eq(s, CHI_OK, "%s", fail_text());
        sweep_axes_close(&a);
    }
}

/* ---- the journal ------------------------------------------------------------------------------ */

static struct sweep_journal planned(int n)
{
    struct sweep_journal g = { .dir = xstrdup(dir), .metric = xstrdup("loss"), .stop = xstrdup(""), .n_column = 1,
                               .n_job = n };
    g.column = xcalloc(2, sizeof *g.column);
    g.column[0] = xstrdup("run.seed");
    g.job = xcalloc((size_t)n, sizeof *g.job);
    for (int i = 0; i < n; i++) {
        g.job[i] = (struct sweep_job){ .id = xprintf("%016x", i + 10), .params = 100 + i, .state_bytes = 5,
                                       .flops = 7,
                                       .steps = 9, .tokens = 11, .reason = xstrdup(""),
                                       .config = xstrdup("[run]\n") };
        g.job[i].label = xcalloc(2, sizeof(char *));
        g.job[i].label[0] = xprintf("seed %d", i);
    }
    return g;
}

static void begin(struct sweep_journal *g, int n)
{
    struct sweep_journal p = planned(n);
    cr_assert_eq(sweep_journal_open(g, dir), CHI_OK, "%s", fail_text());
    cr_assert_eq(sweep_journal_plan(g, &p), CHI_OK, "%s", fail_text());
    sweep_journal_close(&p);
    cr_assert_eq(g->n_job, n);
}

static char *journal_text(size_t *n)
{
    unsigned char *bytes;
    int64_t size;
    char *path = fs_join(dir, "journal");
    cr_assert_eq(fs_read(path, &bytes, &size), CHI_OK);
    char *copy = xcalloc((size_t)size + 1, 1);
    memcpy(copy, bytes, (size_t)size);
    mem_free(bytes);
    free(path);
    *n = (size_t)size;
    return copy;
}

static void write_journal(const char *text, size_t n)
{
    char *path = fs_join(dir, "journal");
    cr_assert_eq(fs_write_atomic(path, text, (int64_t)n), CHI_OK);
    free(path);
}

Test(journal, remembers_plan_states_and_reasons, .init = folder, .fini = no_folder)
{
    struct sweep_journal g, h;
    begin(&g, 3);
    cr_assert_eq(sweep_journal_start(&g, &g.job[0]), CHI_OK);
    cr_assert_eq(sweep_journal_start(&g, &g.job[1]), CHI_OK);
    cr_assert_eq(sweep_journal_start(&g, &g.job[1]), CHI_OK);
    cr_assert_eq(sweep_journal_end(&g, &g.job[1], JOB_FAILED, "one\nline\tonly"), CHI_OK);
    cr_assert_eq(sweep_journal_open(&h, dir), CHI_OK, "%s", fail_text());
    cr_assert_eq(h.n_job, 3);
    cr_expect_str_eq(h.job[2].label[0], "seed 2");
    cr_expect(h.job[2].params == 102 && h.job[2].state_bytes == 5 && h.job[2].flops == 7 && h.job[2].steps == 9
              && h.job[2].tokens == 11);
    cr_expect(h.job[0].state == JOB_RUNNING && h.job[1].state == JOB_FAILED && h.job[2].state == JOB_PENDING);
    cr_expect(h.job[1].starts == 2);
    cr_expect_str_eq(h.job[1].reason, "one line only");
    sweep_journal_close(&g);
    /* the same plan adds nothing, a larger one keeps what is known                            */
    size_t n, m;
    free(journal_text(&n));
    begin(&g, 3);
    free(journal_text(&m));
    cr_expect_eq(n, m);
    sweep_journal_close(&g);
    begin(&g, 4);
    cr_expect(g.job[1].state == JOB_FAILED && g.job[3].state == JOB_PENDING);
    sweep_journal_close(&g);
    sweep_journal_close(&h);
}

Test(journal, torn_anywhere_it_holds_what_was_whole, .init = folder, .fini = no_folder)
{
    struct sweep_journal g;
    size_t n;
    begin(&g, 2);
    cr_assert_eq(sweep_journal_start(&g, &g.job[0]), CHI_OK);
    cr_assert_eq(sweep_journal_end(&g, &g.job[0], JOB_DONE, ""), CHI_OK);
    sweep_journal_close(&g);
    char *text = journal_text(&n);
    for (size_t cut = 0; cut < n; cut++) {
        write_journal(text, cut);
        cr_assert_eq(sweep_journal_open(&g, dir), CHI_OK, "cut at %zu: %s", cut, fail_text());
        int64_t whole = 0;
        for (size_t i = 0; i < cut; i++) whole += text[i] == '\n';
        cr_assert_eq(g.n_job, whole >= 3 ? 2 : 0, "cut at %zu: half a plan counts", cut);
        if (whole >= 3) cr_assert_eq(g.job[0].state, whole == 3 ? JOB_PENDING : JOB_RUNNING);
        sweep_journal_close(&g);
        begin(&g, 2);                   /* the next append cuts the torn line off             */
        cr_assert_eq(sweep_journal_start(&g, &g.job[1]), CHI_OK);
        sweep_journal_close(&g);
        cr_assert_eq(sweep_journal_open(&g, dir), CHI_OK, "cut at %zu, then appended: %s", cut, fail_text());
        cr_assert_eq(g.job[1].state, JOB_RUNNING);
        sweep_journal_close(&g);
    }
    free(text);
}

Test(journal, every_flipped_bit_is_found, .init = folder, .fini = no_folder)
{
    struct sweep_journal g;
    size_t n;
    begin(&g, 2);
    cr_assert_eq(sweep_journal_start(&g, &g.job[0]), CHI_OK);
    sweep_journal_close(&g);
    char *text = journal_text(&n);
    for (size_t i = 0; i < n - 1; i++) {        /* without its last end the last line is torn   */
        text[i] ^= (char)(1 << i % 8);
        write_journal(text, n);
        cr_expect_eq(sweep_journal_open(&g, dir), CHI_EDATA, "byte %zu", i);
        cr_expect(strstr(fail_text(), "this line was changed"));
        sweep_journal_close(&g);
        text[i] ^= (char)(1 << i % 8);
    }
    free(text);
}

/* ---- metrics and early ends ------------------------------------------------------------------- */

static void metrics(const struct sweep_job *j, const char *text)
{
    char *folder_of = fs_join(dir, j->id), *path = fs_join(folder_of, "metrics.jsonl");
    cr_assert_eq(fs_mkdirs(folder_of), CHI_OK);
    cr_assert_eq(fs_write_atomic(path, text, (int64_t)strlen(text)), CHI_OK);
    free(path);
    free(folder_of);
}

Test(stop, holds_from_its_step_on_and_decides_which_metric_counts, .init = folder, .fini = no_folder)
{
    struct sweep_journal g = planned(1);
    int64_t step, offset = 0;
    double value;
    char *why = NULL;
    metrics(g.job, "{\"step\":1,\"loss\":1.5}\n{\"step\":5,\"loss\":3}\n{\"step\":9,\"loss\":1.25,\"heldout_loss\":9}\n"
                   "{\"step\":12,\"loss\":1}\n{\"step\":15,\"loss\":0.");
    cr_assert(sweep_metric(&g, g.job, &value, &step));
    cr_expect(value == 1 && step == 12, "the last whole line");
    cr_expect(!sweep_should_stop(&g, g.job, &offset, &why), "no condition");
    free(g.stop);
    g.stop = xstrdup("loss > 7 | loss < 2");
    g.stop_after = 2;
    cr_assert(sweep_should_stop(&g, g.job, &offset, &why));
    cr_expect(strstr(why, "at step 9"), "%s", why);
    cr_expect(sweep_metric(&g, g.job, &value, &step) && step == 12);
    g.job->state = JOB_EARLY;
    cr_expect(sweep_metric(&g, g.job, &value, &step) && step == 9 && value == 1.25);
    free(why);
    free(g.stop);
    g.stop = xstrdup("nan");
    offset = 0;
    cr_expect(!sweep_should_stop(&g, g.job, &offset, &why));
    int64_t before = offset;
    metrics(g.job, "{\"step\":1,\"loss\":1.5}\n{\"step\":5,\"loss\":3}\n{\"step\":9,\"loss\":1.25,\"heldout_loss\":9}\n"
                   "{\"step\":12,\"loss\":1}\n{\"step\":15,\"loss\":null}\n");
    cr_assert(sweep_should_stop(&g, g.job, &offset, &why), "from where it had looked, %lld", (long long)before);
    free(why);
    cr_expect(sweep_metric(&g, g.job, &value, &step) && isnan(value));
    sweep_journal_close(&g);
}
