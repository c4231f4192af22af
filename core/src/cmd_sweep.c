/* cmd_sweep.c - chimera sweep.                                                          */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "cli.h"
#include "core.h"
#include "fs.h"
#include "run.h"
#include "sweep.h"

static bool dry_run, timed, fail_fast, keep_going, retry, status_only;
static int64_t jobs = 1;
static const char *slurm, *only;

static const struct cli_flag flags[] = {
    { "dry-run", 'n', CLI_SWITCH, &dry_run, NULL, "print the table of jobs, and stop" },
    { "time", 't', CLI_SWITCH, &timed, NULL, "with --dry-run: take the first steps of each kind of job,"
     " and say how long all take" },
    { "jobs", 'j', CLI_INT, &jobs, "N", "processes at once; each gets its part of the cores" },
    { "fail-fast", 0, CLI_SWITCH, &fail_fast, NULL, "stop all jobs when one fails" },
    { "keep-going", 'k', CLI_SWITCH, &keep_going, NULL, "go on when one fails, as without it" },
    { "retry", 0, CLI_SWITCH, &retry, NULL, "try failed jobs again" },
    { "status", 0, CLI_SWITCH, &status_only, NULL, "print the state of each job, and stop" },
    { "slurm", 0, CLI_TEXT, &slurm, "FILE", "write a script for sbatch instead of running" },
    { "job", 0, CLI_TEXT, &only, "ID", "run this job alone, beside others that do so" },
    CLI_FLAGS_END
};

/* The lock dies with the process.  A job alone shares it with others; all jobs want it alone */
static chi_status take_lock(const char *dir, int *lock)
{
    char *path = fs_join(dir, "lock"), who[64] = "";
    chi_status s = CHI_OK;
    *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (*lock < 0) s = fs_fail("create", path);
    else if (flock(*lock, (only ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0) {
        ssize_t n = pread(*lock, who, sizeof who - 1, 0);
        if (n > 0 && who[n - 1] == '\n') who[n - 1] = 0;
        s = errno == EWOULDBLOCK ? fail(CHI_EREFUSED, "%s is being run by %s: wait until it ends, or"
                                        " stop it", dir,
                                        *who ? who : "another process") : fs_fail("lock", path);
    } else if (!only) {
        int n = snprintf(who, sizeof who, "process %ld\n", (long)getpid());
        if (ftruncate(*lock, 0) < 0 || pwrite(*lock, who, (size_t)n, 0) != n) s = fs_fail("write", path);
    }
    free(path);
    return s;
}

/* Everything that can be refused is refused here, before a folder exists                     */
static chi_status make_plan(const struct cli_args *a, struct sweep_journal *plan)
{
    struct config *c;
    struct sweep_axes axes;
    TRY(config_load(&c, a->word[0], a->override, a->n_override));
    chi_status s = sweep_axes_open(&axes, c);
    if (s == CHI_OK) s = sweep_plan(&axes, a->word[0], a->override, a->n_override, plan);
    sweep_axes_close(&axes);
    return s;
}

static chi_status known_job(const struct sweep_journal *g)
{
    if (!only || sweep_job_find(g, only)) return CHI_OK;
    return fail(CHI_ECONF, "--job %s: %s has no such job: chimera sweep %s --status lists them", only,
                g->dir, g->dir);
}

static chi_status run_jobs(struct sweep_journal *g)
{
    const struct sweep_request q = { .jobs = jobs, .fail_fast = fail_fast, .retry = retry, .only = only };
    int signal = 0;
    int64_t failed = 0;
    TRY(known_job(g));
    TRY(sweep_run(g, &q, &signal, &failed));
    if (!only) {
        TRY(sweep_write_tsv(g));
        sweep_print_status(g, stdout);
    }
    if (signal) {
        fflush(stdout);
        note("stopped; the same command goes on");
        exit(128 + signal);
    }
    if (failed)
        return fail(CHI_EREFUSED, "%lld job%s failed: --retry tries again", (long long)failed,
                    failed > 1 ? "s" : "");
    return CHI_OK;
}

static chi_status locked(struct sweep_journal *g, const struct sweep_journal *plan, const char *dir)
{
    if (fs_is_dir(dir) && run_is_folder(dir))
        return fail(CHI_EREFUSED, "%s is the folder of a run: set run.dir to one for the sweep", dir);
    TRY(fs_mkdirs(dir));
    int lock;
    TRY(take_lock(dir, &lock));
    TRY(sweep_journal_open(g, dir));
    if (plan) TRY(sweep_journal_plan(g, plan));
    if (slurm) return sweep_write_slurm(g, slurm, jobs);
    return run_jobs(g);
}

/* A folder: its journal says all                                                                */
static chi_status from_folder(const char *dir, struct sweep_journal *g)
{
    TRY(sweep_journal_open(g, dir));
    if (!g->n_job)
        return fail(CHI_ECONF, "%s holds no planned sweep; wanted is a configuration with [sweep], or"
                    " the run.dir of one", dir);
    if (dry_run) sweep_print_plan(g, stdout);
    if (status_only) sweep_print_status(g, stdout);
    if (dry_run || status_only) return CHI_OK;
    sweep_journal_close(g);
    return locked(g, NULL, dir);
}

static chi_status from_config(const struct cli_args *a, struct sweep_journal *plan, struct sweep_journal *g)
{
    TRY(make_plan(a, plan));
    if (status_only) {
        char *dir = xstrdup(plan->dir);
        chi_status s = from_folder(dir, g);
        free(dir);
        return s;
    }
    if (!only) sweep_print_plan(plan, stdout);
    fflush(stdout);
    if (dry_run && timed) return sweep_print_time(plan, stdout);
    return dry_run ? CHI_OK : locked(g, plan, plan->dir);
}

static chi_status run(const struct cli_args *a)
{
    struct sweep_journal plan = { 0 }, g = { 0 };
    if (timed && !dry_run) return fail(CHI_ECONF, "--time goes with --dry-run");
    if (fail_fast && keep_going) return fail(CHI_ECONF, "--fail-fast and --keep-going: give one of them");
    if (jobs < 1 || jobs > 1024) return fail(CHI_ECONF, "--jobs %lld: wanted is 1..1024", (long long)jobs);
    if (!fs_exists(a->word[0]))
        return fail(CHI_ECONF, "%s: no such file or folder; wanted is a configuration with [sweep], or"
                    " the folder of a sweep",
                    a->word[0]);
    if (WEBASSEMBLY && !dry_run && !status_only && !slurm)
        return fail(CHI_ENOTSUP,
                    "sweep: no processes can be started here (WebAssembly): train the jobs that --dry-run lists"
                    " one by one");
    bool folder = fs_is_dir(a->word[0]);
    if (folder && a->n_override)
        return fail(CHI_ECONF, "%s: a sweep that is planned takes no overrides: give its configuration",
                    a->word[0]);
    chi_status s = folder ? from_folder(a->word[0], &g) : from_config(a, &plan, &g);
    sweep_journal_close(&plan);
    sweep_journal_close(&g);
    return s;
}

const struct verb verb_sweep = {
    .name = "sweep", .usage = "CONF|SWEEP [section.key=value ...]",
    .summary = "run every combination that the section [sweep] describes",
    .doc = "Prints the jobs with what differs, their parameters, state and FLOPs; refuses all if one is not\n"
           "valid; then runs each as `chimera train` in a folder of its own under run.dir, and writes\n"
           "results.tsv there. The other verbs pass [sweep] over; doc/sweep.md explains it.\n"
           "\n"
           "The same command goes on with a sweep that was stopped or killed: what is done stays, what was\n"
           "interrupted goes on from its checkpoint, to the bits of a sweep that never stopped. SIGINT and\n"
           "SIGTERM let the jobs save and stop. SWEEP, the folder, goes on with what it planned.\n",
    .examples = "chimera sweep conf/ablations/sweep.ini --dry-run\n"
                "chimera sweep conf/ablations/sweep.ini --dry-run --time\n"
                "chimera sweep conf/ablations/sweep.ini --jobs 2\n"
                "chimera sweep runs/sweep --status\n"
                "chimera sweep conf/ablations/sweep.ini --slurm sweep.sh\n",
    .flags = flags, .min_words = 1, .max_words = 1, .run = run,
};
