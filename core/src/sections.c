/* sections.c - the core's own options, a table a section.                                */
#include "sections.h"
#include "sweep.h"

const struct chi_option model_table[] = {
    CHI_INT(struct model_options, hidden_size, "256", 1, 65536,
            "width of the residual stream", CHI_OPT_SHAPE),
    CHI_INT(struct model_options, num_hidden_layers, "4", 1, 1024,
            "number of blocks", CHI_OPT_SHAPE),
    CHI_INT(struct model_options, vocab_size, "257", 2, 16777216,
            "number of token ids", CHI_OPT_SHAPE),
    CHI_FLOAT(struct model_options, rms_norm_eps, "1e-6", 0, 1,
            "added to the mean square in every rmsnorm", CHI_OPT_SHAPE),
    CHI_FLOAT(struct model_options, initializer_range, "0.02", 0, 10,
            "standard deviation of start weights", 0),
    CHI_BOOL(struct model_options, tie_word_embeddings, "yes",
            "the head multiplies with the embedding; no: with weights of its own, lm_head.weight", CHI_OPT_SHAPE),
    CHI_FLOAT(struct model_options, logit_soft_cap, "0", 0, 1e6,
            "logits become cap tanh(logit / cap) (arXiv 2408.00118); 0: they stay as they are", CHI_OPT_SHAPE),
    CHI_STRING(struct model_options, layer_pattern, "",
            "mixers by the names of [layer.NAME] sections, repeated over the layers", CHI_OPT_SHAPE),
    CHI_STRING(struct model_options, ffn_pattern, "", "channel mixers likewise", CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

const struct chi_option linear_table[] = { LINEAR_ROWS("f32", "", "no", "") };

const struct chi_option train_table[] = {
    CHI_INT(struct train_options, batch_size, "8", 1, 1 << 20, "sequences of an optimizer step", 0),
    CHI_INT(struct train_options, micro_batch, "0", 0, 1 << 20,
            "sequences computed at once; 0: batch_size", 0),
    CHI_INT(struct train_options, seq_len, "256", 1, 1 << 24, "tokens of a sequence", 0),
    CHI_INT(struct train_options, steps, "1000", 1, 1e12, "optimizer steps of the run", 0),
    CHI_FLOAT(struct train_options, minutes, "0", 0, 1e6,
            "if > 0: measure the first steps and set steps so that training takes this long", 0),
    CHI_INT(struct train_options, warmup_steps, "0", 0, 1e12,
            "steps of linear rise of the learning rate", 0),
    CHI_FLOAT(struct train_options, lr, "1e-3", 0, 1e3, "highest learning rate", 0),
    CHI_FLOAT(struct train_options, min_lr, "-1", -1, 1e3,
            "lowest learning rate; -1: a tenth of lr", 0),
    CHI_ENUM(struct train_options, schedule, "cosine_warmup", "constant|cosine_warmup|wsd",
            "course of the learning rate", 0),
    CHI_FLOAT(struct train_options, decay_fraction, "0.2", 0, 1,
            "wsd: the last part of the steps, in which lr falls", 0),
    CHI_FLOAT(struct train_options, grad_clip, "1", 0, 1e9,
            "largest norm of the gradient; 0: no limit", 0),
    CHI_FLOAT(struct train_options, lambda_warmup, "0", 0, 1,
            "part of the steps in which quantisation sets in; 0: from the start", 0),
    CHI_ENUM(struct train_options, nonfinite, "stop", "stop|skip|rollback",
            "what to do when loss or gradient is not finite", 0),
    CHI_ENUM(struct train_options, recompute, "none", "none|block",
            "compute blocks again in the backward pass instead of keeping their arrays", 0),
    CHI_INT(struct train_options, eval_every, "0", 0, 1e12,
            "steps between held-out evaluations; 0: at the end only", 0),
    CHI_INT(struct train_options, eval_bytes, "0", 0, 1e15,
            "how much held-out text they measure, from its start; 0: all", 0),
    CHI_INT(struct train_options, checkpoint_every, "0", 0, 1e12,
            "steps between checkpoints; 0: at the end only", 0),
    CHI_INT(struct train_options, keep, "2", 0, 1e6, "checkpoints to keep; 0: all", 0),
    CHI_INT(struct train_options, log_every, "1", 1, 1e12,
            "steps between lines of metrics.jsonl", 0),
    CHI_INT(struct train_options, trace_steps, "20", 1, 1e6, "steps that chimera train --trace records", 0),
    CHI_REF(struct train_options, optimizer, "adamw", "optimizer",
            "its options stand in [optimizer]", 0),
    CHI_REF(struct train_options, objective, "next_token", "objective",
            "its options stand in [objective]", 0),
    CHI_OPTIONS_END
};

const struct chi_option run_table[] = {
    CHI_PATH(struct run_options, dir, "run", "the run's folder", CHI_OPT_RUNTIME),
    CHI_INT(struct run_options, seed, "1", 0, 9007199254740992.0,
            "of start weights, data order and plugins", 0),
    CHI_INT(struct run_options, threads, "0", 0, 1024,
            "0: one per core; no number changes a result", CHI_OPT_RUNTIME),
    CHI_INT(struct run_options, memory_limit_mb, "0", 0, 1 << 30,
            "refuse to take more; 0: what the machine has", CHI_OPT_RUNTIME),
    CHI_BOOL(struct run_options, paranoid, "no",
            "look for NaN and infinity after every call of a layer and name the first", CHI_OPT_RUNTIME),
    CHI_BOOL(struct run_options, tensorboard, "no",
            "also write the numbers of metrics.jsonl as TensorBoard events to tensorboard/", CHI_OPT_RUNTIME),
    CHI_ENUM(struct run_options, weights, "map", "map|copy",
            "those of a packed model: used in the file's own pages, or copied into huge pages when it is opened",
            CHI_OPT_RUNTIME),
    CHI_ENUM(struct run_options, verify, "once", "once|full|no",
            "when the data of a packed model are checked: before the first use of these very files, each time, never",
            CHI_OPT_RUNTIME),
    CHI_STRING(struct run_options, mode, "",
            "the NAME of a section [mode.NAME], whose lines section.key = value count in use; empty: none",
            CHI_OPT_RUNTIME),
    CHI_OPTIONS_END
};

const struct chi_option loop_table[] = {
    CHI_REF(struct loop_options, use, "", "loop", "the loop, such as parcae; empty: every layer has one turn",
            CHI_OPT_SHAPE),
    CHI_LIST(struct loop_options, prelude, "", 0, 1023, "layers before the loop, such as 0-3", CHI_OPT_SHAPE),
    CHI_LIST(struct loop_options, loop, "", 0, 1023, "layers that are looped, such as 4-23", CHI_OPT_SHAPE),
    CHI_LIST(struct loop_options, coda, "", 0, 1023, "layers behind the loop, such as 24-27", CHI_OPT_SHAPE),
    CHI_INT(struct loop_options, loop_default, "2", 1, 64, "turns that are trained", CHI_OPT_SHAPE),
    CHI_INT(struct loop_options, loops, "0", 0, 64,
            "turns in use, which may be others; 0: loop_default", CHI_OPT_RUNTIME),
    CHI_FLOAT(struct loop_options, adaptive_exit, "0", 0, 1e6,
            "in use, a token that a turn moves by less, relative to itself, has no further turns; 0: never",
            CHI_OPT_RUNTIME),
    CHI_OPTIONS_END
};

const struct chi_option data_table[] = {
    CHI_REF(struct data_options, task, "text", "task",
            "where training data come from; its options stand in [task]", 0),
    CHI_REF(struct data_options, tokenizer, "byte", "tokenizer",
            "its options stand in [tokenizer]", CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

const struct chi_option generate_table[] = {
    CHI_FLOAT(struct generate_options, temperature, "0.7", 0, 100,
            "0: always the likeliest token", CHI_OPT_RUNTIME),
    CHI_FLOAT(struct generate_options, top_p, "0.92", 0, 1,
            "smallest set of tokens with this probability", CHI_OPT_RUNTIME),
    CHI_INT(struct generate_options, top_k, "0", 0, 1 << 24,
            "only the k likeliest tokens; 0: all", CHI_OPT_RUNTIME),
    CHI_FLOAT(struct generate_options, repetition_penalty, "1.08", 0.01, 100,
            "divides the logits of recent tokens; 1: off", CHI_OPT_RUNTIME),
    CHI_INT(struct generate_options, repetition_window, "1024", 0, 1 << 24,
            "how many recent tokens", CHI_OPT_RUNTIME),
    CHI_INT(struct generate_options, max_new_tokens, "4096", 0, 1e12,
            "when to stop", CHI_OPT_RUNTIME),
    CHI_INT(struct generate_options, seed, "1", 0, 9007199254740992.0, "of sampling", CHI_OPT_RUNTIME),
    CHI_STRING(struct generate_options, stop, "", "a text that ends the output", CHI_OPT_RUNTIME),
    CHI_OPTIONS_END
};

const struct chi_option deployment_table[] = {
    CHI_INT(struct deployment_options, streams, "8", 1, 64,
            "texts that run at once (generate --batch); more of them wait for their turn", CHI_OPT_RUNTIME),
    CHI_INT(struct deployment_options, max_streams, "64", 1, 64,
            "more streams than this are refused", CHI_OPT_RUNTIME),
    CHI_INT(struct deployment_options, memory_budget_mb, "0", 0, 1 << 30,
            "refuse a model in use whose weights, states of all streams and work space are more; 0: no budget",
            CHI_OPT_RUNTIME),
    CHI_OPTIONS_END
};

const struct chi_option backend_table[] = {
    CHI_STRING(struct backend_options, use, "auto",
            "auto, or names such as avx2, the first before the others; portable: the plain reference",
            CHI_OPT_RUNTIME),
    CHI_BOOL(struct backend_options, autotune, "yes",
            "with use = auto, linear kernels by the times that `chimera kernels CONF --tune` left, where there are "
            "some", CHI_OPT_RUNTIME),
    CHI_OPTIONS_END
};

const struct chi_option plugin_table[] = {
    CHI_PATH(struct plugin_options, path, "",
            "a folder searched before all others", CHI_OPT_RUNTIME),
    CHI_STRING(struct plugin_options, load, "",
            "paths of plugin files outside the searched folders", CHI_OPT_RUNTIME),
    CHI_OPTIONS_END
};

const struct core_section core_sections[] = {
    { "model", "shape of the network", model_table },
    { "linear", "weights of linear maps; [linear.PATTERN] for those whose name matches, [linear.embed] for the "
      "embedding and the head, [linear.lm_head] for a head with weights of its own", linear_table },
    { "loop", "layers that are run several times; the options of its component stand here, too", loop_table },
    { "train", "optimisation", train_table },
    { "data", "tasks and tokenizer", data_table },
    { "generate", "sampling", generate_table },
    { "deployment", "how many streams a model in use serves, in how much memory", deployment_table },
    { "declared", "what is said of the model elsewhere; inspect prints it beside what it counts; [declared.NAME] for "
      "the layers of [layer.NAME]", declared_table },
    { "run", "folder, seed and limits", run_table },
    { "backend", "which instruction sets compute", backend_table },
    { "plugins", "where components come from", plugin_table },
    { "sweep", "axes of `chimera sweep`, beside section.key = a | b; other verbs pass it over", sweep_table },
    { NULL, NULL, NULL }
};
