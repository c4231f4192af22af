/* llama.h - the few functions of llama.cpp's model interface that our tests call, found at run time as those of ggml.h.
 *
 * Its parameters are structures that grow with its versions.  They are passed by value, which puts them on the
 * stack here (x86-64): the library reads and writes as much as it knows, so one that is large enough serves any
 * version.                                                                                                 */
#ifndef TESTS_LLAMA_H
#define TESTS_LLAMA_H

#include "ggml.h"

#include <stdlib.h>

struct parameters { uint64_t words[64]; };
struct batch_of { uint64_t words[16]; };
struct llama_model;
struct llama_context;
struct llama_vocab;

#define LLAMA(X) \
    X(llama_backend_init, void, (void)) \
    X(llama_log_set, void, (void (*)(int, const char *, void *), void *)) \
    X(llama_model_default_params, struct parameters, (void)) \
    X(llama_model_load_from_file, struct llama_model *, (const char *, struct parameters)) \
    X(llama_model_get_vocab, const struct llama_vocab *, (const struct llama_model *)) \
    X(llama_vocab_n_tokens, int32_t, (const struct llama_vocab *)) \
    X(llama_context_default_params, struct parameters, (void)) \
    X(llama_init_from_model, struct llama_context *, (struct llama_model *, struct parameters)) \
    X(llama_set_n_threads, void, (struct llama_context *, int32_t of_one, int32_t of_batches)) \
    X(llama_batch_get_one, struct batch_of, (int32_t *, int32_t)) \
    X(llama_decode, int32_t, (struct llama_context *, struct batch_of)) \
    X(llama_get_logits_ith, float *, (struct llama_context *, int32_t)) \
    X(llama_tokenize, int32_t, (const struct llama_vocab *, const char *, int32_t, int32_t *, int32_t, \
        bool, bool)) \
    X(llama_free, void, (struct llama_context *)) \
    X(llama_model_free, void, (struct llama_model *))
LLAMA(GGML_POINTER)

static void quiet(int level, const char *text, void *arg)
{
    (void)arg;
    if (level == 4 || getenv("LLAMA_LOG")) fputs(text, stderr);         /* 4: an error                      */
}

/* Fills the pointers above and those of ggml.h, and lets the library choose its CPU backend                  */
static bool llama_open(const char *folder)
{
    void *library = library_open(folder, "libllama.*so");
    bool all = library && ggml_open(folder);
#define LLAMA_FIND(name, type, arguments) all = all && library_find(library, #name, &name);
    LLAMA(LLAMA_FIND)
    if (!all) return false;
    llama_log_set(quiet, NULL);
    ggml_backend_load_all_from_path(folder);
    llama_backend_init();
    return true;
}

#endif
