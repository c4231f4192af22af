/* replay.c - takes the steps of a trace again, from its files alone: replay TRACE [CHECKPOINT]
 *
 * Each step's loss, gradient norm and learning rate must be those of trace.jsonl, and the
 * weights at the end those of final.safetensors, bit for bit; with CHECKPOINT (a
 * model.safetensors) these are compared with its, too.  Exit code 1: they are not.      */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "fs.h"
#include "trainer.h"

struct files { struct st_file *batches; const int32_t *value[5]; int64_t steps, n_seq, seq_len; };

static chi_status open_batches(struct files *f, const char *dir)
{
    static const char *const name[] = { "tokens", "targets", "fresh", "depth", "graded" };
    char *path = fs_join(dir, "batches.safetensors");
    chi_status s = st_open(&f->batches, path);
    free(path);
    TRY(s);
    for (int i = 0; i < 5; i++) {
        const struct st_tensor *t = st_find(f->batches, name[i]);
        if (!t && i < 3) return fail(CHI_EDATA, "%s: there is no %s", dir, name[i]);
        f->value[i] = t ? t->data : NULL;
        if (i) continue;
        f->steps = t->dim[0];
        f->n_seq = t->dim[1];
        f->seq_len = t->dim[2];
    }
    return CHI_OK;
}

static struct batch batch_of(const struct files *f, int64_t step)
{
    int64_t rows = f->n_seq * f->seq_len, at = step * rows;
    struct batch b = { .n_seq = f->n_seq, .seq_len = f->seq_len };
    b.token = xcalloc((size_t)rows, sizeof *b.token);
    b.target = xcalloc((size_t)rows, sizeof *b.target);
    b.first_seg = xcalloc((size_t)f->n_seq + 1, sizeof *b.first_seg);
    b.seg = xcalloc((size_t)rows, sizeof *b.seg);
    memcpy(b.token, f->value[0] + at, (size_t)rows * sizeof *b.token);
    memcpy(b.target, f->value[1] + at, (size_t)rows * sizeof *b.target);
    for (int64_t r = 0; r < rows; r++) {
        int64_t s = r / f->seq_len, first = s * f->seq_len;
        if (r == first) b.first_seg[s] = b.n_seg;
        if (f->value[2][at + r]) b.seg[b.n_seg++] = (struct model_segment){ .tokens = b.token + r, .fresh = true };
        struct model_segment *g = &b.seg[b.n_seg - 1];
        if (b.token[r] < 0) continue;       /* behind a sequence's examples            */
        g->rows++;
        b.rows++;
        if (f->value[3]) g->depth = (struct chi_depth){ f->value[3][step * f->n_seq + s],
                                                        f->value[4][step * f->n_seq + s] };
        b.scored += b.target[r] >= 0;
    }
    b.first_seg[f->n_seq] = b.n_seg;
    return b;
}

static double number_in(const char *line, const char *key)
{
    char *quoted = xprintf("\"%s\":", key);
    const char *at = strstr(line, quoted);
    double x = at ? strtod(at + strlen(quoted), NULL) : NAN;
    free(quoted);
    return x;
}

static chi_status same_step(const char *line, const struct step_result *r, int64_t step)
{
    const double want[] = { number_in(line, "loss"), number_in(line, "grad_norm"), number_in(line, "lr"),
                            number_in(line, "clip") };
    const double got[] = { r->loss, r->norm, r->lr, r->clip };
    for (int i = 0; i < 4; i++)
        if (got[i] != want[i])
            return fail(CHI_ENUMERIC, "step %d: got %.17g, the trace says %.17g: %s",
                        (int)step + 1, got[i], want[i], line);
    return CHI_OK;
}

static chi_status take_steps(struct trainer *t, const struct files *f, char *lines)
{
    char *rest = lines, *line;
    printf("depths");
    for (t->step = 0; t->step < f->steps; t->step++) {
        struct step_result r = { 0 };
        struct batch b = batch_of(f, t->step);
        for (int64_t s = 0; s < b.n_seq; s++) printf(" %d", b.seg[b.first_seg[s]].depth.turns);
        chi_status s = train_on(t, &b, &r);
        batch_free(&b);
        TRY(s);
        if (!(line = strsep(&rest, "\n"))) return fail(CHI_EDATA, "trace.jsonl ends early");
        TRY(same_step(line, &r, t->step));
        TRY(train_update(t, &r));
    }
    putchar('\n');
    return CHI_OK;
}

static chi_status same_weights(const struct model *m, const char *path)
{
    const struct model_tensor *w;
    struct st_file *f;
    TRY(st_open(&f, path));
    chi_status s = CHI_OK;
    for (int64_t i = 0; s == CHI_OK && (w = model_tensor(m, i)); i++) {
        const struct st_tensor *t = st_find(f, w->name);
        if (!t || t->n != w->n || memcmp(t->data, w->w, (size_t)w->n * 4))
            s = fail(CHI_ENUMERIC, "%s: other %s", path, w->name);
    }
    st_close(f);
    return s;
}

static chi_status replay(const char *dir, const char *checkpoint)
{
    struct trainer t = { 0 };
    struct files f = { 0 };
    struct config *c;
    struct st_file *initial;
    unsigned char *lines;
    int64_t n;
    TRY(open_batches(&f, dir));
    TRY(config_load(&c, fs_join(dir, "config.ini"), NULL, 0));
    TRY(spec_open(&t.spec, c, SPEC_MODEL | SPEC_TRAIN));
    TRY(trainer_open_model(&t, f.n_seq * f.seq_len));
    TRY(st_open(&initial, fs_join(dir, "initial.safetensors")));
    TRY(model_load(t.model, initial));
    TRY(fs_read(fs_join(dir, "trace.jsonl"), &lines, &n));
    TRY(take_steps(&t, &f, (char *)lines));
    TRY(same_weights(t.model, fs_join(dir, "final.safetensors")));
    return checkpoint ? same_weights(t.model, checkpoint) : CHI_OK;
}

int main(int argc, char **argv)
{
    if (argc < 2) return 2;
    if (replay(argv[1], argc > 2 ? argv[2] : NULL) == CHI_OK) return 0;
    fprintf(stderr, "replay: %s\n", fail_text());
    return 1;
}
