/* cli.h - the command line: one struct verb per command, each in its cmd_NAME.c.
 *
 *     chimera VERB SUBJECT [section.key=value ...] [--flags]
 *
 * Words with '=' after a dotted name are overrides; flags may stand anywhere; "--"
 * ends flags.  --help of a verb is made from these tables, as is the manual page. */
#ifndef CLI_H
#define CLI_H

#include <chimera/base.h>
#include <stdio.h>

enum {                                  /* to points at                          */
    CLI_SWITCH = 1,                     /* bool                                  */
    CLI_INT,                            /* int64_t                               */
    CLI_NUMBER,                         /* double                                */
    CLI_TEXT,                           /* const char *                          */
    CLI_TEXTS,                          /* struct cli_texts: may be repeated     */
    CLI_OVERRIDE                        /* "section.key": it stands for that override */
};
struct cli_texts { const char **v; int n; };

struct cli_flag {
    const char *name;                   /* "prompt": --prompt TEXT, --prompt=TEXT */
    char        letter;                 /* 'p', or 0                             */
    int         type;
    void       *to;                     /* static in the verb's file; its value
                                           there is the default                  */
    const char *value;                  /* "TEXT", in the help; NULL for switches */
    const char *doc;                    /* one sentence                          */
};
#define CLI_MODE { "mode", 0, CLI_OVERRIDE, "run.mode", "NAME", "use the model as [mode.NAME] of its configuration says" }
#define CLI_VERIFY { "verify", 0, CLI_OVERRIDE, "run.verify", "once|full|no", "check the data of a packed model: before the " \
                     "first use of these very files, now, or not at all" }
#define CLI_FLAGS_END { NULL, 0, 0, NULL, NULL, NULL }

struct cli_args {
    char **word;                        /* positional words that are no overrides */
    int    n_word;
    char **override;                    /* "section.key=value"                   */
    int    n_override;
    char **made; int n_made;            /* overrides that flags stand for        */
};

struct verb {
    const char *name;
    const char *usage;                  /* "RUN [section.key=value ...]"         */
    const char *summary;                /* one line for the list of verbs        */
    const char *doc;                    /* a few paragraphs                      */
    const char *examples;               /* lines "chimera ...\n"                 */
    const struct cli_flag *flags;       /* or NULL                               */
    int min_words, max_words;
    chi_status (*run)(const struct cli_args *);   /* the top prints fail_text()  */
};

extern const struct verb verb_init, verb_train, verb_sweep, verb_generate, verb_eval, verb_convert, verb_export,
    verb_import,
                         verb_report, verb_bench, verb_inspect, verb_kernels, verb_plugins, verb_config,
                         verb_validate, verb_tokenizer, verb_new;
extern const struct verb *const verbs[];          /* NULL-terminated; in main.c  */

/* Sorts a verb's words (argv after the verb) into flags, overrides and the rest and
 * stores the flags' values.  *help: --help or -h was among them, and nothing else
 * was checked.  The arrays in args point into argv; cli_args_free frees them.    */
chi_status cli_parse(const struct verb *, int argc, char **argv, struct cli_args *, bool *help)
           CHI_MUST_CHECK;
void cli_args_free(struct cli_args *);
void cli_usage(const struct verb *const *, FILE *);        /* the list of verbs   */
void cli_help(const struct verb *, FILE *);                /* one verb            */
chi_status cli_find(const struct verb *const *, const char *name, const struct verb **) CHI_MUST_CHECK;

/* The whole program: picks the verb, runs it, prints fail_text() on stderr; returns
 * the exit code.  version prints what --version says; man prints chimera(1).     */
int cli_main(int argc, char **argv, const struct verb *const *, void (*version)(FILE *),
             void (*man)(FILE *));

struct core_section;
/* chimera(1) in man(7) roff from the tables of verbs and of the core's sections  */
void man_print(FILE *, const struct verb *const *, const struct core_section *);

#endif
