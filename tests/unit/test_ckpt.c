/* test_ckpt.c - run folders and checkpoints over a fake model: what is saved comes
 * back bit for bit, and every kind of damage is seen.                             */
#include "core.h"
#include "fake_model.h"
#include "fs.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[SCRATCH_SIZE];
static char *argv[] = { "chimera", "train", "it's a path.ini", NULL };
static struct config config = { "[model]\nhidden_size = 4\n",
                                "model.hidden_size = 4\nlayer.X.heads = 2\ntokenizer.size = 9\n" };
static struct spec spec;
static struct model model;
static float moments[2 * FAKE_FLOATS];
static const char *const moment_names[] = { "m", "v" };
static const struct ckpt_moments mo = { 2, moment_names, moments };

static void setup(void)
{
    make_scratch(dir);
    cr_assert_eq(chdir(dir), 0);
    fake_open(&model, &spec, &config);
    if (!freopen("warnings", "w", stderr)) cr_assert_fail("stderr");
}

static void teardown(void)
{
    cr_assert_eq(fs_remove_tree(dir), CHI_OK);
}

TestSuite(ckpt, .init = setup, .fini = teardown);

static struct run *open_run(bool resume)
{
    struct run *r;
    cr_assert_eq(run_open(&r, "run", &config, resume, 3, argv), CHI_OK, "%s", fail_text());
    return r;
}

static void save(struct run *r, int step, int64_t keep)
{
    struct ckpt_meta meta = { .step = step, .tokens = step * 7, .epoch = 2, .position = 11,
                              .data_hash = 0xfedcba9876543210u, .metrics_bytes = run_metrics_bytes(r) };
    fake_fill(&model, moments, 2, step);
    cr_assert_eq(ckpt_save(r, &model, &mo, &meta, keep), CHI_OK, "%s", fail_text());
}

/* The step that loads, with all its numbers checked; 0: none                      */
static int64_t newest(void)
{
    char *path;
    struct ckpt_meta meta;
    cr_assert_eq(ckpt_latest("run", &path), CHI_OK, "%s", fail_text());
    if (!path) return 0;
    fake_fill(&model, moments, 2, -1);
    cr_assert_eq(ckpt_load(path, &model, &mo, &meta), CHI_OK, "%s", fail_text());
    cr_assert(fake_equal(&model, moments, 2, (int)meta.step), "other numbers in %s", path);
    cr_assert(meta.tokens == meta.step * 7 && meta.epoch == 2 && meta.position == 11
              && meta.data_hash == 0xfedcba9876543210u);
    free(path);
    return meta.step;
}

static bool contains(const char *path, const char *text)
{
    unsigned char *p;
    int64_t n;
    cr_assert_eq(fs_read(path, &p, &n), CHI_OK, "%s", fail_text());
    bool is = strstr((char *)p, text) != NULL;
    mem_free(p);
    return is;
}

static void append_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "a");
    cr_assert(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

Test(ckpt, save_load_keep)
{
    struct run *r = open_run(false);
    cr_assert_eq(newest(), 0);
    for (int step = 10; step <= 50; step += 10) save(r, step, 2);
    cr_assert_eq(newest(), 50);
    int64_t *step;
    cr_assert_eq(ckpt_steps("run", &step), 2);
    cr_assert(step[0] == 50 && step[1] == 40);
    free(step);
    save(r, 60, 0);
    save(r, 70, 0);
    cr_assert_eq(ckpt_steps("run", &step), 4);
    free(step);
    save(r, 70, 0);                                     /* the same step once more   */
    cr_assert_eq(newest(), 70);
    run_close(r);
    cr_assert(contains("run/ckpt/0000000070/config.ini", "hidden_size = 4"));
    struct st_file *f;
    cr_assert_eq(st_open(&f, "run/ckpt/0000000070/optimizer.safetensors"), CHI_OK);
    cr_assert(st_find(f, "m.embed.weight") && st_find(f, "v.final_norm.weight") && !st_at(f, 6));
    st_close(f);
}

Test(ckpt, without_moments)
{
    struct run *r = open_run(false);
    struct ckpt_meta meta = { .step = 5 };
    fake_fill(&model, moments, 2, 5);
    cr_assert_eq(ckpt_save(r, &model, NULL, &meta, 1), CHI_OK, "%s", fail_text());
    cr_assert(!fs_exists("run/ckpt/0000000005/optimizer.safetensors"));
    fake_fill(&model, moments, 2, -1);
    cr_assert_eq(ckpt_load("run/ckpt/0000000005", &model, NULL, &meta), CHI_OK, "%s", fail_text());
    cr_assert(fake_equal(&model, NULL, 0, 5));
    cr_assert_eq(ckpt_load("run/ckpt/0000000005", &model, &mo, &meta), CHI_EDATA);
    cr_assert(strstr(fail_text(), "no optimizer state"), "%s", fail_text());
    run_close(r);
}

/* Each file of the newest: cut at many places, and each of its bits flipped in turn
 * (every 7th, to stay quick): the older one must load, with a warning naming the file. */
Test(ckpt, damage_falls_back, .timeout = 60)
{
    static const char *const files[] = { "MANIFEST.json", "config.ini", "model.safetensors",
                                         "optimizer.safetensors" };
    struct run *r = open_run(false);
    save(r, 10, 0);
    save(r, 20, 0);
    run_close(r);
    for (int i = 0; i < 4; i++) {
        char path[96];
        unsigned char *p;
        int64_t n, other = 0;
        snprintf(path, sizeof path, "run/ckpt/0000000020/%s", files[i]);
        cr_assert_eq(fs_read(path, &p, &n), CHI_OK);
        for (int64_t k = 0; k < n; k += 1 + n / 40) {
            FILE *f = fopen(path, "wb");
            cr_assert(f && fwrite(p, 1, (size_t)k, f) == (size_t)k && fclose(f) == 0);
            cr_assert_eq(newest(), i || k < n - 1 ? 10 : 20, "%s cut to %lld bytes", path, (long long)k);
        }
        for (int64_t bit = 0; bit < 8 * n; bit += 7) {
            p[bit / 8] ^= (unsigned char)(1 << bit % 8);
            FILE *f = fopen(path, "wb");
            cr_assert(f && fwrite(p, 1, (size_t)n, f) == (size_t)n && fclose(f) == 0);
            int64_t got = newest();             /* a blank of the manifest may change */
            cr_assert(got == 10 || (i == 0 && got == 20), "%s bit %lld", path, (long long)bit);
            other += got == 10;
            p[bit / 8] ^= (unsigned char)(1 << bit % 8);
        }
        cr_assert_gt(other, n / 2, "%s: only %lld flips seen", path, (long long)other);
        fflush(stderr);
        cr_assert(contains("warnings", path), "no warning names %s", path);
        cr_assert_eq(unlink(path), 0);
        cr_assert_eq(newest(), 10);
        FILE *f = fopen(path, "wb");
        cr_assert(f && fwrite(p, 1, (size_t)n, f) == (size_t)n && fclose(f) == 0);
        cr_assert_eq(newest(), 20);
        mem_free(p);
    }
}

Test(ckpt, all_damaged_is_an_error_and_the_damaged_future_goes)
{
    struct run *r = open_run(false);
    char *path;
    save(r, 10, 0);
    save(r, 20, 0);
    append_text("run/ckpt/0000000020/model.safetensors", "x");
    cr_assert_eq(newest(), 10);
    save(r, 15, 1);
    cr_assert(!fs_exists("run/ckpt/0000000020") && !fs_exists("run/ckpt/0000000010"));
    cr_assert_eq(newest(), 15);
    save(r, 20, 0);
    append_text("run/ckpt/0000000020/model.safetensors", "x");
    save(r, 20, 0);                                     /* replaces a damaged one    */
    cr_assert_eq(newest(), 20);
    append_text("run/ckpt/0000000015/config.ini", "x");
    append_text("run/ckpt/0000000020/config.ini", "x");
    cr_assert_eq(ckpt_latest("run", &path), CHI_EDATA);
    cr_assert(strstr(fail_text(), "none of the 2 checkpoints"), "%s", fail_text());
    cr_assert_null(path);
    run_close(r);
}

Test(ckpt, other_models_are_refused)
{
    static const struct chi_component newer = { .kind = CHI_LAYER, .name = "mixer_x", .revision = 4 };
    struct run *r = open_run(false), *again;
    struct ckpt_meta meta;
    save(r, 10, 0);
    run_close(r);
    config.shape = "model.hidden_size = 8\nlayer.X.heads = 2\nlayer.X.window = 3\n";
    cr_assert_eq(ckpt_load("run/ckpt/0000000010", &model, &mo, &meta), CHI_ESHAPE);
    cr_assert(strstr(fail_text(), "model.hidden_size: checkpoint 4, configured 8"), "%s", fail_text());
    cr_assert(strstr(fail_text(), "layer.X.window = 3: only configured"), "%s", fail_text());
    cr_assert(!strstr(fail_text(), "heads") && !strstr(fail_text(), "tokenizer"), "%s", fail_text());
    config.text = "other";
    cr_assert_eq(run_open(&again, "run", &config, true, 3, argv), CHI_ESHAPE);
    cr_assert(contains("run/config.ini", "hidden_size = 4"), "a refused resume wrote config.ini");
    config.shape = "model.hidden_size = 4\nlayer.X.heads = 2\n";
    cr_assert_eq(ckpt_load("run/ckpt/0000000010", &model, &mo, &meta), CHI_OK, "%s", fail_text());
    spec.mixer[0].component = &newer;
    cr_assert_eq(ckpt_load("run/ckpt/0000000010", &model, &mo, &meta), CHI_ESHAPE);
    cr_assert(strstr(fail_text(), "checkpoint mixer_x revision 3, configured mixer_x revision 4"), "%s", fail_text());
}

Test(ckpt, lock)
{
    struct run *r = open_run(false);
    pid_t child = fork();
    if (child == 0) {
        struct run *second;
        bool refused = run_open(&second, "run", &config, true, 3, argv) == CHI_EREFUSED;
        char me[64];
        snprintf(me, sizeof me, "process %ld on ", (long)getppid());
        _exit(refused && strstr(fail_text(), me) ? 42 : 1);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 42, "the lock let a second process in");
    run_close(r);
    run_close(open_run(true));
}

Test(ckpt, folder_in_use_and_leftovers)
{
    struct run *r = open_run(false), *again;
    cr_assert_eq(mkdir("run/ckpt/0000000007.tmp", 0777), 0);
    append_text("run/ckpt/0000000007.tmp/model.safetensors", "half");
    run_close(r);
    cr_assert_eq(run_open(&again, "run", &config, false, 3, argv), CHI_EREFUSED);
    cr_assert(strstr(fail_text(), "--resume"), "%s", fail_text());
    cr_assert(fs_exists("run/ckpt/0000000007.tmp"));
    run_close(open_run(true));
    cr_assert(!fs_exists("run/ckpt/0000000007.tmp"));
    cr_assert(contains("run/command.txt", "chimera train 'it'\\''s a path.ini'\n"));
    cr_assert(run_is_folder("run") && !run_is_folder("."));
}

Test(ckpt, metrics)
{
    struct run *r = open_run(false);
    cr_assert_eq(run_metrics(r, "{\"a\":1}"), CHI_OK);
    save(r, 1, 0);
    cr_assert_eq(run_metrics(r, "{\"a\":2}"), CHI_OK);
    cr_assert_eq(run_sample(r, "{}"), CHI_OK);
    cr_assert_eq(run_metrics_bytes(r), 16);
    run_close(r);
    append_text("run/metrics.jsonl", "{\"torn");
    r = open_run(true);
    cr_assert_eq(run_metrics_bytes(r), 16);
    cr_assert_eq(run_cut(r, 17, 0), CHI_EDATA);
    cr_assert_eq(run_cut(r, 9, 0), CHI_EDATA);
    cr_assert_eq(run_cut(r, 8, 0), CHI_OK);
    cr_assert_eq(run_metrics(r, "{\"a\":3}"), CHI_OK);
    cr_assert(contains("run/metrics.jsonl", "{\"a\":1}\n{\"a\":3}\n"));
    cr_assert(!contains("run/metrics.jsonl", "torn"));
    cr_assert_eq(run_status(r, "failed", "a \"reason\""), CHI_OK);
    cr_assert(contains("run/status.json", "{\"state\": \"failed\", \"reason\": \"a \\\"reason\\\"\""));
    run_close(r);
}

Test(ckpt, subjects)
{
    struct config *c;
    char *overrides[] = { "train.steps=3" };
    run_close(open_run(false));
    cr_assert_eq(run_config("rum", NULL, 0, &c), CHI_ECONF);
    cr_assert(strstr(fail_text(), "did you mean run?"), "%s", fail_text());
    cr_assert_eq(mkdir("bare", 0777), 0);
    cr_assert_eq(run_config("bare", NULL, 0, &c), CHI_ECONF);
    cr_assert(strstr(fail_text(), "without config.ini"), "%s", fail_text());
    /* the fake config_load fails with its path and last override                 */
    cr_assert_eq(run_config("run", overrides, 1, &c), CHI_ECONF);
    cr_assert_str_eq(fail_text(), "run/config.ini: run.dir=run");
    cr_assert_eq(run_config("run/config.ini", overrides, 1, &c), CHI_ECONF);
    cr_assert_str_eq(fail_text(), "run/config.ini: train.steps=3");
}
