/* ggml.h - the few functions of llama.cpp's libraries that our tests call, as their public headers have them, found
 * at run time: nothing of llama.cpp is needed to build this program.                                       */
#ifndef TESTS_GGML_H
#define TESTS_GGML_H

#include <dlfcn.h>
#include <glob.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { GGML_F32 = 0, GGML_F16 = 1, GGML_Q8_0 = 8, GGML_TQ1_0 = 34, GGML_TQ2_0 = 35, GGUF_U32 = 4, GGUF_TEXT = 8 };

struct ggml_context;
struct ggml_cgraph;
struct ggml_backend;
struct ggml_buffer;
struct gguf_context;
struct ggml_tensor {                    /* how it begins; only the library makes any                        */
    int    type;
    void  *buffer;
    int64_t ne[4];                      /* innermost first                                                  */
    size_t nb[4];
};
struct ggml_traits {                    /* how it begins                                                    */
    const char *name;
    int64_t block, interleave;
    size_t  bytes;                      /* of a block                                                       */
    bool    quantized;
    void  (*to_float)(const void *, float *, int64_t n);
};
struct ggml_memory { size_t bytes; void *at; bool no_alloc; };
struct gguf_params { bool no_alloc; struct ggml_context **tensors; };

/* X(function, what it returns, its arguments)                                                              */
#define GGML(X) \
    X(ggml_init, struct ggml_context *, (struct ggml_memory)) \
    X(ggml_free, void, (struct ggml_context *)) \
    X(ggml_get_tensor, struct ggml_tensor *, (struct ggml_context *, const char *)) \
    X(ggml_get_data, void *, (const struct ggml_tensor *)) \
    X(ggml_nbytes, size_t, (const struct ggml_tensor *)) \
    X(ggml_get_type_traits, const struct ggml_traits *, (int type)) \
    X(ggml_validate_row_data, bool, (int type, const void *, size_t bytes)) \
    X(ggml_quantize_chunk, size_t, (int type, const float *, void *, int64_t start, int64_t rows, \
        int64_t cols, const float *importance)) \
    X(ggml_new_tensor_2d, struct ggml_tensor *, (struct ggml_context *, int type, int64_t, int64_t)) \
    X(ggml_set_name, struct ggml_tensor *, (struct ggml_tensor *, const char *)) \
    X(ggml_mul_mat, struct ggml_tensor *, (struct ggml_context *, struct ggml_tensor *, \
        struct ggml_tensor *)) \
    X(ggml_new_graph, struct ggml_cgraph *, (struct ggml_context *)) \
    X(ggml_build_forward_expand, void, (struct ggml_cgraph *, struct ggml_tensor *)) \
    X(ggml_tensor_overhead, size_t, (void)) \
    X(ggml_graph_overhead, size_t, (void)) \
    X(ggml_backend_get_device, void *, (struct ggml_backend *)) \
    X(ggml_backend_dev_backend_reg, void *, (void *device)) \
    X(ggml_backend_reg_get_proc_address, void *, (void *reg, const char *)) \
    X(ggml_backend_cpu_buffer_from_ptr, struct ggml_buffer *, (void *, size_t)) \
    X(ggml_backend_tensor_alloc, int, (struct ggml_buffer *, struct ggml_tensor *, void *)) \
    X(ggml_backend_alloc_ctx_tensors, struct ggml_buffer *, (struct ggml_context *, \
        struct ggml_backend *)) \
    X(ggml_backend_buffer_free, void, (struct ggml_buffer *)) \
    X(ggml_backend_tensor_set, void, (struct ggml_tensor *, const void *, size_t at, size_t bytes)) \
    X(ggml_backend_tensor_get, void, (const struct ggml_tensor *, void *, size_t at, size_t bytes)) \
    X(ggml_backend_graph_compute, int, (struct ggml_backend *, struct ggml_cgraph *)) \
    X(ggml_backend_free, void, (struct ggml_backend *)) \
    X(ggml_backend_load_all_from_path, void, (const char *folder)) \
    X(ggml_backend_init_by_type, struct ggml_backend *, (int type, const char *)) \
    X(gguf_init_from_file, struct gguf_context *, (const char *, struct gguf_params)) \
    X(gguf_init_empty, struct gguf_context *, (void)) \
    X(gguf_free, void, (struct gguf_context *)) \
    X(gguf_get_n_kv, int64_t, (const struct gguf_context *)) \
    X(gguf_get_kv_type, int, (const struct gguf_context *, int64_t)) \
    X(gguf_get_val_str, const char *, (const struct gguf_context *, int64_t)) \
    X(gguf_get_val_u32, uint32_t, (const struct gguf_context *, int64_t)) \
    X(gguf_find_key, int64_t, (const struct gguf_context *, const char *)) \
    X(gguf_get_n_tensors, int64_t, (const struct gguf_context *)) \
    X(gguf_get_tensor_name, const char *, (const struct gguf_context *, int64_t)) \
    X(gguf_get_tensor_offset, size_t, (const struct gguf_context *, int64_t)) \
    X(gguf_get_tensor_type, int, (const struct gguf_context *, int64_t)) \
    X(gguf_get_tensor_size, size_t, (const struct gguf_context *, int64_t)) \
    X(gguf_get_alignment, size_t, (const struct gguf_context *)) \
    X(gguf_get_meta_size, size_t, (const struct gguf_context *)) \
    X(gguf_remove_key, int64_t, (struct gguf_context *, const char *)) \
    X(gguf_set_kv, void, (struct gguf_context *, const struct gguf_context *)) \
    X(gguf_set_val_str, void, (struct gguf_context *, const char *key, const char *)) \
    X(gguf_add_tensor, void, (struct gguf_context *, const struct ggml_tensor *)) \
    X(gguf_write_to_file, bool, (const struct gguf_context *, const char *, bool only_header)) \
    X(ggml_backend_load_all_from_path, void, (const char *folder)) \
    X(ggml_backend_init_by_type, struct ggml_backend *, (int type, const char *)) \
    X(ggml_backend_reg_by_name, void *, (const char *))

#define GGML_POINTER(name, type, arguments) static type (*name) arguments;
GGML(GGML_POINTER)

/* The function of this name, into a pointer to one; false: the library has none                            */
static bool library_find(void *library, const char *name, void *pointer)
{
    void *f = dlsym(library, name);
    if (!f) fprintf(stderr, "%s\n", dlerror());
    memcpy(pointer, &f, sizeof f);
    return f != NULL;
}

/* The library of a folder whose name fits the pattern, with all that it needs; NULL: a line says why       */
static void *library_open(const char *folder, const char *pattern)
{
    char path[4096];
    glob_t g;
    void *library = NULL;
    snprintf(path, sizeof path, "%s/%s", folder, pattern);
    if (glob(path, 0, NULL, &g) != 0) fprintf(stderr, "%s: no such file\n", path);
    else if (!(library = dlopen(g.gl_pathv[0], RTLD_NOW | RTLD_LOCAL))) fprintf(stderr, "%s\n", dlerror());
    globfree(&g);
    return library;
}

/* Fills the pointers above from the folder of a prebuilt llama.cpp                                         */
static bool ggml_open(const char *folder)
{
    void *library = library_open(folder, "libggml.*so");        /* libggml.so, or with a version in its name      */
    bool all = library != NULL;
#define GGML_FIND(name, type, arguments) all = all && library_find(library, #name, &name);
    GGML(GGML_FIND)
    return all;
}

#endif
