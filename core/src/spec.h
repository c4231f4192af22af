/* spec.h - everything that a configuration says, typed: which components exist, with
 * which options.  All errors of a file come out at once.                       */
#ifndef SPEC_H
#define SPEC_H

#include <chimera/data.h>
#include <chimera/format.h>
#include <chimera/loop.h>
#include <chimera/plugin.h>
#include <chimera/train.h>
#include "config.h"
#include "declared.h"
#include "registry.h"

struct model_options {                  /* [model]                               */
    int64_t hidden_size, num_hidden_layers, vocab_size;
    double  rms_norm_eps, initializer_range, logit_soft_cap;
    bool    tie_word_embeddings;
    const char *layer_pattern, *ffn_pattern;
};
struct linear_options {                 /* [linear], [linear.embed]              */
    const char *quantizer, *encoding;   /* "" encoding: the class's first        */
    bool extra_rmsnorm;
    const char *adapter;                /* "hgf, lora": names of [adapter.NAME]  */
};
enum { SCHEDULE_CONSTANT, SCHEDULE_COSINE_WARMUP, SCHEDULE_WSD };
enum { NONFINITE_STOP, NONFINITE_SKIP, NONFINITE_ROLLBACK };
enum { WEIGHTS_MAP, WEIGHTS_COPY };
enum { RECOMPUTE_NONE, RECOMPUTE_BLOCK };
struct train_options {                  /* [train]                               */
    int64_t batch_size, micro_batch, seq_len, steps, warmup_steps;
    double  lr, min_lr, decay_fraction, grad_clip, lambda_warmup, minutes;
    int32_t schedule, nonfinite, recompute;
    int64_t eval_every, eval_bytes, checkpoint_every, keep, log_every, trace_steps;
    const char *optimizer, *objective;
};
struct run_options {                    /* [run]                                 */
    const char *dir;
    int64_t seed, threads, memory_limit_mb;
    bool    paranoid, tensorboard;
    int32_t weights, verify;            /* of packed models; verify as in packed.h */
    const char *mode;                   /* "": none                              */
};
struct data_options { const char *task, *tokenizer; };          /* [data]        */
struct generate_options {               /* [generate]                            */
    double  temperature, top_p, repetition_penalty;
    int64_t top_k, repetition_window, max_new_tokens, seed;
    const char *stop;
};

struct loop_options {                   /* [loop], beside its component's         */
    const char *use;                    /* "": no loop                           */
    struct chi_list prelude, loop, coda;
    int64_t loop_default, loops;        /* loops 0: loop_default                 */
    double  adaptive_exit;              /* 0: never                              */
};

struct deployment_options {             /* [deployment]                          */
    int64_t streams, max_streams, memory_budget_mb;
};
struct backend_options { const char *use; bool autotune; };    /* [backend]      */
struct plugin_options { const char *path, *load; };             /* [plugins]      */

struct part {                           /* a component and its parsed options    */
    const struct chi_component *component;
    const char *section;                /* "layer.GD"                            */
    void       *conf;                   /* the component's struct                */
};

/* Turns over layers prelude .. prelude + length - 1; without a loop the component is NULL,
 * prelude counts all layers and the rest is 0.                                 */
struct loop_spec {
    struct loop_options o;
    struct part part;
    int64_t prelude, length, coda;      /* numbers of layers                     */
    int64_t turns;                      /* in inference                          */
};

enum { ADAPTERS_MAX = 8 };              /* around one linear                     */

/* A [linear...] rule: the class of the linears whose name it matches           */
struct linear_rule {
    const char *pattern;                /* glob on "layers.3.mixer.q_proj"       */
    struct linear_options o;
    struct part quantizer;
    const struct chi_component *encoding;
    const struct part *adapter[ADAPTERS_MAX]; int64_t n_adapter;    /* the spec's own    */
    const struct chi_option *table;         /* of o, with what it inherits           */
};

struct spec {
    struct config   *config;
    struct packed   *packed;            /* where the weights and their encodings come from; NULL: masters */
    uint64_t vocabulary;                /* of the tokens that its weights were trained with, by tokens.h; */
    char    *vocabulary_of;             /* 0: unknown.  Who says so                                       */
    struct registry *registry;
    struct model_options    model;
    struct train_options    train;
    struct run_options      run;
    struct data_options     data;
    struct generate_options generate;
    struct deployment_options deployment;
    struct backend_options  backends;
    struct plugin_options   plugins;
    struct declared declared[DECLARED_MAX]; int64_t n_declared;
    struct part  *mixer, *ffn;          /* [num_hidden_layers]                   */
    struct part  *spare; int64_t n_spare;       /* [layer.X] that no pattern names */
    struct linear_rule *rule;           /* most specific last                    */
    int64_t n_rule;
    struct part **adapter; int64_t n_adapter;   /* [adapter.X], and those without a section */
    struct loop_spec loop;
    struct part optimizer, objective, task, tokenizer;  /* component NULL: absent */
    const struct chi_kernels *kernels;  /* merged                                */
    const struct chi_component **backend;               /* first wins, NULL-ended */
    struct tune *tune;                  /* times of linear kernels here, or NULL */
};

enum {                                  /* what a verb needs to exist            */
    SPEC_MODEL = 1, SPEC_TRAIN = 2, SPEC_DATA = 4, SPEC_TOKENIZER = 8,
    SPEC_STREAMS = 16                   /* for run_load_model(): segments are streams, of which no
                                           more than deployment.streams run at once */
};
/* Takes the config (spec_close frees it).  CHI_ECONF: all errors in fail_text(). */
chi_status spec_open(struct spec **, struct config *, int needs) CHI_MUST_CHECK;
void spec_close(struct spec *);
/* modes.c: the lines of the mode that run.mode names, before anything is parsed; all modes' lines, afterwards; and a
 * refusal, for those who write a configuration, which is then in no mode                       */
void mode_apply(struct config *);
void mode_check(struct config *, bool all);
chi_status mode_refuse(const struct spec *) CHI_MUST_CHECK;
/* The plugins that [plugins] path and load add, for verbs that want no more of a file; extra is
 * searched before them, or NULL                                                          */
chi_status spec_registry(struct registry **, struct config *, struct plugin_options *,
                         const char *extra) CHI_MUST_CHECK;
/* The NAME of a section [layer.NAME] that is closest to this word, or NULL             */
const char *spec_near_alias(const struct config *, const char *word);
/* The rule of a linear; name "embed" or "layers.I.mixer.NAME"                  */
const struct linear_rule *spec_linear(const struct spec *, const char *name);
/* Does name match pattern, in which '*' stands for any text?                    */
bool spec_matches(const char *pattern, const char *name);
/* [backend] use is auto: nobody forces an order of backends                   */
bool backends_auto(const struct spec *);
/* The core's own sections for config, man page and help; i from 0; NULL ends   */
struct core_section { const char *name, *doc; const struct chi_option *table; };
extern const struct core_section core_sections[];

#endif
