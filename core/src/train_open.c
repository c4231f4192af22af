/* train_open.c - from a request to everything that the loop needs.
 *
 * A time limit (train.minutes) becomes a number of steps before the run exists: the
 * first steps are taken once on a copy of the work and timed, and train.steps is set to
 * what fits, at most what was asked for.  The run's config.ini holds that number and
 * minutes = 0, so schedules, resume and repetition know nothing of clocks.            */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "core.h"
#include "fs.h"
#include "hosting.h"
#include "signals.h"
#include "trainer.h"

enum { NEEDS = SPEC_MODEL | SPEC_TRAIN | SPEC_DATA | SPEC_TOKENIZER };

static int64_t micro_batch(const struct train_options *o)
{
    return o->micro_batch ? min_i64(o->micro_batch, o->batch_size) : o->batch_size;
}

static void add_override(struct trainer *t, char *text)
{
    t->override = xrealloc(t->override, (size_t)(t->n_override + 1) * sizeof *t->override);
    t->override[t->n_override++] = text;
}

static chi_status open_spec(struct trainer *t)
{
    struct config *config = NULL;
    TRY(run_config(t->request->subject, t->override, t->n_override, &config));
    TRY(spec_open(&t->spec, config, NEEDS));
    return mode_refuse(t->spec);
}

/* ---- the network and its optimizer ------------------------------------------------- */

static chi_status take_moments(struct trainer *t)
{
    const struct chi_optimizer_ops *ops = t->spec->optimizer.component->ops;
    t->moments.n = ops->moments;
    t->moments.name = ops->moment_names;
    if (!ops->moments) return CHI_OK;
    size_t bytes = (size_t)ops->moments * (size_t)model_param_floats(t->model) * sizeof(float);
    t->moments.block = mem_take(bytes, "the optimizer's moments");
    return t->moments.block ? CHI_OK : CHI_ENOMEM;
}

/* Every tensor that backward fills and no settle() moves                              */
static void find_slices(struct trainer *t)
{
    const struct model_tensor *w;
    int64_t n = 0, stride = model_param_floats(t->model);
    while (model_tensor(t->model, n)) n++;
    t->slice = xcalloc((size_t)n, sizeof *t->slice);
    t->squares = xcalloc((size_t)n, sizeof *t->squares);
    t->held = xcalloc((size_t)n, sizeof *t->held);
    for (int64_t i = 0; (w = model_tensor(t->model, i)); i++) {
        if (w->manual || !w->w || !w->g) continue;
        float *m = t->moments.block ? t->moments.block + (w->w - model_params(t->model)) : NULL;
        t->held[t->n_slice] = w->held;
        t->squares[t->n_slice] = (struct gradient_run){ w->g, w->n };
        t->slice[t->n_slice++] = (struct chi_slice){
            .name = w->name, .w = w->w, .g = w->g, .m = m, .n = w->n, .stride = stride,
            .decay = w->decay,
        };
    }
}

chi_status trainer_open_model(struct trainer *t, int64_t max_segs)
{
    const struct train_options *o = &t->spec->train;
    int64_t micro = micro_batch(o);
    TRY(model_open(&t->model, t->spec, MODEL_TRAIN, micro * o->seq_len, max_segs));
    t->h = host_open(t->spec, "optimizer");
    TRY(take_moments(t));
    find_slices(t);
    return tree_open(&t->tree, model_param_floats(t->model), ceil_div(o->batch_size, micro));
}

static chi_status open_work(struct trainer *t)
{
    const struct train_options *o = &t->spec->train;
    TRY(dataset_open(&t->data, t->spec));
    TRY(dataset_can_train(t->data));
    return trainer_open_model(t, dataset_max_segs(t->data, micro_batch(o), o->seq_len));
}

void trainer_close_work(struct trainer *t)
{
    tree_close(&t->tree);
    free(t->slice);
    free(t->squares);
    free(t->held);
    mem_free(t->moments.block);
    host_close(t->h);
    model_close(t->model);
    dataset_close(t->data);
    spec_close(t->spec);
    t->slice = NULL;
    t->squares = NULL;
    t->held = NULL;
    t->n_slice = 0;
    t->moments = (struct ckpt_moments){ 0 };
    t->h = NULL;
    t->model = NULL;
    t->data = NULL;
    t->spec = NULL;
}

void trainer_close(struct trainer *t)
{
    run_close(t->run);
    trainer_close_work(t);
    for (int i = t->request->n_override; i < t->n_override; i++) free(t->override[i]);
    free(t->override);
    *t = (struct trainer){ 0 };
}

/* ---- a time limit ------------------------------------------------------------------ */

enum { TIMED_STEPS = 20 };

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of a step: the median of those after the first, for about 4 s, so that a busy
 * moment of the machine does not shorten the whole run                               */
static chi_status time_steps(struct trainer *t, double *seconds)
{
    double took[TIMED_STEPS], begun = 0;
    int64_t n = -1;                         /* the first step warms up                */
    TRY(model_init(t->model, (uint64_t)t->spec->run.seed));
    TRY(trainer_bind(t, 0));
    do {
        struct step_result r = { 0 };
        double before = now_s();
        TRY(train_gradient(t, &r));
        if (r.finite) TRY(train_update(t, &r));
        if (n < 0) begun = now_s();
        else took[n] = now_s() - before;
        if (signals_pending()) return fail(CHI_EREFUSED, "interrupted while the first steps were timed");
    } while (++n < 3 || (n < TIMED_STEPS && now_s() - begun < 4));
    qsort(took, (size_t)n, sizeof *took, rising);
    *seconds = took[n / 2];
    return CHI_OK;
}

chi_status trainer_time(const struct train_request *q, double *seconds)
{
    struct trainer t = { .request = q, .saved = -1, .begun = now_s() };
    for (int i = 0; i < q->n_override; i++) add_override(&t, q->override[i]);
    chi_status s = open_spec(&t);
    if (s == CHI_OK) s = open_work(&t);
    if (s == CHI_OK) s = time_steps(&t, seconds);
    trainer_close(&t);
    return s;
}

static chi_status measured_steps(struct trainer *t, int64_t *steps)
{
    double s = 0;
    TRY(open_work(t));
    TRY(time_steps(t, &s));
    double fit = t->spec->train.minutes * 60 / (s > 1e-9 ? s : 1e-9);
    *steps = fit < (double)t->spec->train.steps ? max_i64(1, (int64_t)fit) : t->spec->train.steps;
    note("a step takes %.3f s: %lld steps in %g minutes", s, (long long)*steps, t->spec->train.minutes);
    return CHI_OK;
}

static chi_status recorded_steps(const struct trainer *t, int64_t *steps)
{
    struct config *c = NULL;
    char *path = xprintf("%s/config.ini", t->spec->run.dir);
    chi_status s = config_load(&c, path, NULL, 0);
    const char *text = s == CHI_OK ? config_get(c, "train", "steps") : NULL;
    *steps = text ? strtoll(text, NULL, 10) : 0;
    if (s == CHI_OK && *steps < 1)
        s = fail(CHI_EDATA, "%s says no train.steps: it is damaged; begin with --fresh", path);
    config_free(c);
    free(path);
    return s;
}

static chi_status fix_steps(struct trainer *t, bool goes_on)
{
    int64_t steps = 0;
    TRY(goes_on ? recorded_steps(t, &steps) : measured_steps(t, &steps));
    trainer_close_work(t);
    t->cursor = (struct cursor){ 0, 0 };
    t->step = t->tokens = 0;
    add_override(t, xprintf("train.steps=%lld", (long long)steps));
    add_override(t, xstrdup("train.minutes=0"));
    return open_spec(t);
}

/* ---- the run folder ---------------------------------------------------------------- */

/* Is another process writing to it?                                                   */
static chi_status check_unlocked(const char *dir)
{
    char *path = xprintf("%s/lock", dir);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    free(path);
    if (fd < 0) return CHI_OK;
    bool taken = flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
    close(fd);
    return taken ? fail(CHI_EREFUSED, "%s is in use by another process: stop that one, or set run.dir", dir)
                 : CHI_OK;
}

static chi_status move_aside(const char *given)
{
    char *dir = xstrdup(given), *to = NULL;
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/') dir[--n] = 0;
    chi_status s = check_unlocked(dir);
    for (int i = 1; s == CHI_OK && (!to || fs_exists(to)); i++) {
        free(to);
        to = xprintf("%s.old-%d", dir, i);
    }
    if (s == CHI_OK && rename(dir, to))
        s = fail_errno(CHI_EIO, "%s cannot be moved to %s", dir, to);
    if (s == CHI_OK) note("%s moved to %s", dir, to);
    free(to);
    free(dir);
    return s;
}

/* What is there decides: *path is the checkpoint to go on from (caller frees), or NULL */
static chi_status choose_start(struct trainer *t, char **path)
{
    const struct train_request *q = t->request;
    const char *dir = t->spec->run.dir;
    *path = NULL;
    if (!fs_exists(dir)) return CHI_OK;
    if (q->fresh) return run_is_folder(dir) || fs_is_dir(dir) ? move_aside(dir) : CHI_OK;
    TRY(ckpt_latest(dir, path));
    if (*path && !q->resume) {
        free(*path);
        *path = NULL;
        return fail(CHI_EREFUSED, "%s holds a run with checkpoints: --resume goes on with it, --fresh moves "
                    "it aside, run.dir=OTHER leaves it alone", dir);
    }
    return CHI_OK;
}

/* The command as it was meant, for command.txt                                        */
static chi_status open_run(struct trainer *t)
{
    const struct train_request *q = t->request;
    char **argv = xcalloc((size_t)q->n_override + 6, sizeof *argv);
    int argc = 0;
    static char name[] = "chimera", verb[] = "train", resume[] = "--resume", fresh[] = "--fresh";
    char *subject = xstrdup(q->subject);
    argv[argc++] = name;
    argv[argc++] = verb;
    argv[argc++] = subject;
    for (int i = 0; i < q->n_override; i++) argv[argc++] = q->override[i];
    if (q->resume) argv[argc++] = resume;
    if (q->fresh) argv[argc++] = fresh;
    chi_status s = run_open(&t->run, t->spec->run.dir, t->spec->config, q->resume, argc, argv);
    free(subject);
    free(argv);
    if (s == CHI_OK && t->spec->run.tensorboard) run_tensorboard(t->run);
    return s == CHI_OK ? run_write_env(t->run, t->spec, dataset_hash(t->data)) : s;
}

/* ---- a plan without a run ------------------------------------------------------------ */

static void print_documents(const struct trainer *t)
{
    const struct train_options *o = &t->spec->train;
    int64_t tokens = dataset_tokens(t->data, CHI_SPLIT_TRAIN), rows = o->batch_size * o->seq_len;
    printf("data        %lld documents, %lld tokens to train on; %lld documents, %lld bytes held out\n",
           (long long)dataset_documents(t->data, CHI_SPLIT_TRAIN), (long long)tokens,
           (long long)dataset_documents(t->data, CHI_SPLIT_HELDOUT),
           (long long)dataset_bytes(t->data, CHI_SPLIT_HELDOUT));
    printf("steps       %lld of %lld tokens: %.2f epochs\n", (long long)o->steps, (long long)rows,
           (double)o->steps * (double)rows / (double)tokens);
}

static void print_examples(const struct trainer *t)
{
    const struct train_options *o = &t->spec->train;
    int64_t n = dataset_documents(t->data, CHI_SPLIT_TRAIN),
        step = dataset_max_segs(t->data, o->batch_size, o->seq_len);
    char *train = n ? xprintf("%lld", (long long)n) : xstrdup("no end of");
    printf("data        %s examples of task %s to train on; %lld held out\n", train, t->spec->task.component->name,
           (long long)dataset_documents(t->data, CHI_SPLIT_HELDOUT));
    printf("steps       %lld of %lld examples\n", (long long)o->steps, (long long)step);
    free(train);
}

static chi_status print_plan(struct trainer *t)
{
    const struct train_options *o = &t->spec->train;
    struct model_counts c = { 0 };
    char params[32], train_bytes[32], saved[32], have[32];
    int64_t micro = micro_batch(o);
    TRY(dataset_open(&t->data, t->spec));
    TRY(dataset_can_train(t->data));
    TRY(model_describe(t->spec, stdout, &c));
    human_count(params, c.params);
    human_bytes(train_bytes, c.train_bytes);
    human_bytes(saved, c.saved_bytes_per_row * micro * o->seq_len);
    human_bytes(have, mem_available());
    printf("parameters  %s\n", params);
    printf("memory      %s for training, of it %s kept for the backward pass of %lld rows; %s are free\n",
           train_bytes, saved, (long long)(micro * o->seq_len), have);
    if (dataset_makes_examples(t->data)) print_examples(t);
    else print_documents(t);
    if (o->minutes > 0) printf("time        at most %g minutes, which may end in fewer steps\n", o->minutes);
    return CHI_OK;
}

chi_status trainer_open(struct trainer *t, const struct train_request *q, bool *go)
{
    char *checkpoint = NULL;
    *t = (struct trainer){ .request = q, .saved = -1, .begun = now_s() };
    *go = false;
    for (int i = 0; i < q->n_override; i++) add_override(t, q->override[i]);
    TRY(open_spec(t));
    if (q->dry_run) return print_plan(t);
    TRY(choose_start(t, &checkpoint));
    chi_status s = t->spec->train.minutes > 0 ? fix_steps(t, checkpoint != NULL) : CHI_OK;
    if (s == CHI_OK) s = open_work(t);
    if (s == CHI_OK && q->trace) s = trace_check(t, q->trace, checkpoint);
    bool made = s == CHI_OK && q->trace;
    if (s == CHI_OK && checkpoint) s = trainer_check_data(t, checkpoint);
    if (s == CHI_OK && checkpoint && !trainer_imported(checkpoint)) warn_of_changes(t);
    if (s == CHI_OK) s = open_run(t);
    if (s == CHI_OK) s = trainer_start(t, checkpoint);
    if (s != CHI_OK && made) rmdir(q->trace);
    if (s == CHI_OK && checkpoint) note("goes on from %s: step %lld of %lld", checkpoint,
                                        (long long)t->step, (long long)t->spec->train.steps);
    free(checkpoint);
    *go = s == CHI_OK;
    return s;
}
