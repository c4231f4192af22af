/* chimera/data.h - where tokens come from: tokenizers and tasks.               */
#ifndef CHIMERA_DATA_H
#define CHIMERA_DATA_H

#include "host.h"

#define CHI_NO_TOKENS INT64_MIN

struct chi_tokenizer_ops {          /* kind CHI_TOKENIZER                       */
    uint32_t struct_size;
    uint32_t self_size;
    chi_status (*open)(const struct chi_host *, void *self, const void *conf)
                       CHI_MUST_CHECK;
    int64_t (*vocab)(const void *self);         /* ids are 0 .. vocab-1         */
    int32_t (*end)(const void *self);           /* the id that ends a document  */
    /* Writes at most max ids and returns how many the n bytes have; CHI_NO_TOKENS:
     * it could not find out, for instance for want of memory                   */
    int64_t (*encode)(const void *self, const unsigned char *text, int64_t n,
                      int32_t *ids, int64_t max);
    /* Writes at most max bytes and returns how many the id has; 0 for end.  An
     * id outside the vocabulary has none.                                      */
    int64_t (*decode)(const void *self, int32_t id, unsigned char *text,
                      int64_t max);

    /* Optional: encode with working memory.  Where encode returns a negative number,
     * -bytes, it wrote nothing of use, and the core calls this with a scratch that has
     * so many bytes.                                                           */
    int64_t (*encode_in)(const void *self, const unsigned char *text, int64_t n,
                         int32_t *ids, int64_t max, struct chi_scratch *);
    /* Optional: the bytes of the first piece of text[n], 1 .. n.  No token crosses from
     * a piece into the next: `chimera tokenizer train` counts pieces.          */
    int64_t (*piece)(const void *self, const unsigned char *text, int64_t n);
    /* Optional: a hash of what gives a text its ids besides the tokens' bytes: merges,
     * the rule that splits, added tokens.  Equal in every process for equal rules; a
     * model that was trained with others is refused.                           */
    uint64_t (*rules)(const void *self);
};

/* A document: its bytes stay where they are until the task is closed.          */
struct chi_document {
    const char          *name;      /* for messages                             */
    const unsigned char *text;
    int64_t              n;
};

enum { CHI_SPLIT_TRAIN, CHI_SPLIT_HELDOUT, CHI_SPLITS };

/* What a held-out document is of a question: its context, and one of its choices. */
struct chi_choice {
    int64_t question;               /* 0, 1, ...: choices of one stand together,
                                       two or more, of which one is right       */
    int64_t context;                /* so many bytes come first, which are read
                                       and not scored                           */
    int64_t bytes;                  /* of the choice, >= 1: a score is also
                                       compared per byte                        */
    int32_t slice;                  /* or -1                                    */
    bool    right;
};

/* A task has documents, which a tokenizer makes ids of; or, instead, it makes
 * examples on the fly, which are ids: then documents and document are NULL, and the
 * five members from examples on are there.  The tokenizer is not asked.        */
struct chi_task_ops {               /* kind CHI_TASK                            */
    uint32_t struct_size;
    uint32_t self_size;
    chi_status (*open)(const struct chi_host *, void *self, const void *conf)
                       CHI_MUST_CHECK;
    int64_t    (*documents)(const void *self, int split);
    void       (*document)(const void *self, int split, int64_t i,
                           struct chi_document *);

    int64_t     (*examples)(const void *self, int split);   /* 0: endless, which
                                       only training may be                     */
    int64_t     (*longest)(const void *self, int split);    /* rows of an example */
    int64_t     (*vocab)(const void *self);     /* ids are 0 .. vocab-1         */
    const char *(*slice)(const void *self, int64_t i);  /* names [a-z0-9_]+ of what
                                       accuracy is told apart by; NULL ends      */
    /* Example i of a split, from i = 0, as a stream of its own: row r reads input[r]
     * and is to give target[r] (-1: not scored), which counts for slice[r] (-1: for
     * none).  Returns the rows, 1 .. longest, or a status that h->fail() explained.
     * A pure function of the options, split, i and h->random(): take numbers from
     * stream CHI_SPLITS * i + split, and no input may occur in both splits.  [task] */
    int64_t     (*example)(const void *self, const struct chi_host *h, int split,
                           int64_t i, int32_t *input, int32_t *target,
                           int32_t *slice);

    /* Optional, of a task with documents, with slice: the held-out ones are choices of
     * questions.  The one with the greatest log-likelihood is the model's answer;
     * what training has is text as without this.                               */
    void        (*choice)(const void *self, int64_t i, struct chi_choice *);
};

/* host->service(h, "chimera.files/1"): the core reads files for plugins.       */
struct chi_files {
    uint32_t struct_size;
    /* Path is a file, or a folder whose regular files are taken recursively, in
     * byte order of their paths.  Calls each(ctx, name, bytes, n) in that order;
     * bytes stay until the instance is closed.  Errors are explained.  [setup] */
    chi_status (*read)(const struct chi_host *, const char *path,
                       chi_status (*each)(void *ctx, const char *name,
                                          const unsigned char *bytes, int64_t n),
                       void *ctx);
};

/* host->service(h, "chimera.json/1"): the core parses JSON for plugins.        */
enum { CHI_JSON_NULL, CHI_JSON_BOOL, CHI_JSON_NUMBER, CHI_JSON_TEXT, CHI_JSON_LIST,
       CHI_JSON_OBJECT };
struct chi_json_value {
    int32_t     type;
    const char *key;                /* of a member of an object, else NULL      */
    const char *text;               /* UTF-8, ends with NUL                     */
    double      number;             /* true is 1                                */
    int64_t     n;                  /* bytes of text; items, or members         */
    const struct chi_json_value *item;          /* [n]                          */
};
struct chi_json {
    uint32_t struct_size;
    /* One value and nothing behind it; no key twice in an object.  It stays until the
     * instance is closed.  name ("file:3") begins messages; CHI_EDATA.  [setup] */
    chi_status (*parse)(const struct chi_host *, const char *name, const char *text,
                        int64_t n, const struct chi_json_value **);
};

#endif
