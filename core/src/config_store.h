/* config_store.h - what config.c, config_check.c and config_print.c share.       */
#ifndef CONFIG_STORE_H
#define CONFIG_STORE_H

/* Small memory never runs out (xcalloc ends the program with code 5), so uthash
 * never gets to its fatal path, which would exit.                              */
#define uthash_malloc(n)   xcalloc(1, n)
#define uthash_free(p, n)  free(p)
#define uthash_fatal(what) ((void)(what))
#include "config.h"
#include "core.h"
#include <stdlib.h>
#include <uthash.h>

struct source {                         /* a file, or the command line           */
    char *name, *dir;                   /* as messages show it; absolute          */
    char *real;                         /* to recognise it in a cycle, or NULL    */
    const struct source *from;          /* who includes it                       */
    int   rank;                         /* order of messages                     */
    struct source *next;
    bool    inside;                     /* a text of a model, which includes nothing */
};

/* An option as it was parsed.  The value is kept as text, so that printing needs neither
 * the struct, which may be gone or changed, nor the table.                     */
struct parsed {
    const char *name;
    const struct chi_option *option;    /* for documentation only                */
    uint32_t flags;
    bool  set;                          /* has a value or a default              */
    char *text;
};

struct section {
    char *name;
    const struct source *source;        /* where it was opened last              */
    int   line;
    int   used;                         /* somebody reads it: 1, 2, ... in order; else 0 */
    bool  tables;                       /* config_parse() was called on it       */
    bool  skipped;                      /* config_skip(): not printed            */
    struct parsed *parsed;
    int   n_parsed;
    const char **key;                   /* what is legal in it                   */
    int   n_key;
    UT_hash_handle hh;                  /* iterates in order of first appearance */
};

struct entry {
    char *id;                           /* "section\nkey"                        */
    struct section *section;
    const char *key;                    /* within id                             */
    char *value;
    const struct source *source;
    int   line;
    UT_hash_handle hh;
};

struct message { int rank, line; int64_t n; chi_status status; char *text; };

struct config {
    char *path;
    struct source  *sources;
    struct section *sections;
    struct entry   *entries;
    struct message *message;
    int64_t n_error;
    void  **owned;
    int64_t n_owned;
    int     n_used, n_source;
};

struct entry *config_find(const struct config *, const char *section, const char *key);
struct section *config_use(struct config *, const char *section);
void config_know(struct section *, const char *key);
bool config_knows(const struct section *, const char *key);
/* text: malloc'ed, taken over                                                  */
void config_message(struct config *, const struct source *, int line, char *text);
char *origin_text(const struct source *, int line);     /* "conf/x.ini:7"        */

#endif
