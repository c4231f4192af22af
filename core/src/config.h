/* config.h - INI files: read, check, override, print.
 *
 * Dialect: stock libinih behind a reader of our own, which sees every raw line and
 * so knows true line numbers, over-long lines, NUL bytes, duplicates and
 * continuation lines.  Precedence: table default < include < file < command line.
 *
 * Reading happens in two steps.  config_load() collects (section, key, value,
 * origin); config_parse() fills a struct from a section by an option table.  Errors
 * of both are collected; config_finish() adds unknown sections and keys and ends
 * with all of them, a line each:  conf/x.ini:14: layer.GD.num_heads = 0: ...   */
#ifndef CONFIG_H
#define CONFIG_H

#include <chimera/option.h>
#include <stdio.h>

struct config;

/* path may be NULL (nothing but overrides).  overrides: "section.key=value".  The
 * key of an override is what follows the last dot before '='; its section is what
 * precedes it.  Fails at once only if a file cannot be read.                   */
chi_status config_load(struct config **, const char *path,
                       char *const *overrides, int n_overrides) CHI_MUST_CHECK;
/* The same from the text inside a model; name stands for the file in messages.  Such a text may be anybody's: it
 * includes nothing, and what it says in [plugins] is left out, with a warning, since that would run files.     */
chi_status config_load_text(struct config **, const char *name, const char *text,
                            char *const *overrides, int n) CHI_MUST_CHECK;
void config_free(struct config *);      /* and every string it handed out       */
const char *config_path(const struct config *);        /* as given; may be NULL */

/* Does the section exist (is any of its keys set)?                             */
bool config_has(const struct config *, const char *section);
/* A raw value, or NULL; marks the key as known.                                */
const char *config_get(struct config *, const char *section, const char *key);
/* Names of sections that begin with prefix, in order of first appearance; i counts
 * from 0; NULL after the last.                                                 */
const char *config_section(const struct config *, const char *prefix, int64_t i);

/* Fills conf (of the size that the table expects) from the section's keys and the
 * defaults.  extra, if not NULL, is a NULL-terminated list of keys of the section
 * that the caller reads itself ("use").  Collects errors; returns false if this
 * section had any.  Strings and lists belong to the config.  The values are remembered
 * as text for printing, so conf may be changed or go. */
bool config_parse(struct config *, const char *section,
                  const struct chi_option *table, void *conf,
                  const char *const *extra);
/* The section's keys are somebody else's: known, printed as they stand.             */
void config_ignore(struct config *, const char *section);
/* The same, and left out where the configuration is printed or hashed.              */
void config_skip(struct config *, const char *section);
/* Keys of a section and their raw values in the order of the files; i counts from 0;
 * NULL after the last.                                                              */
const char *config_key(const struct config *, const char *section, int64_t i, const char **value);
/* Does the command line set this key?                                                */
bool config_overridden(const struct config *, const char *section, const char *key);
/* Flags of an option that was parsed (CHI_OPT_...), 0 of a key that somebody reads himself                  */
enum { CONFIG_NO_SECTION = -2, CONFIG_NO_KEY };
int config_option_flags(const struct config *, const char *section, const char *key);
/* Removes what files (not the command line) set in a section                         */
void config_clear(struct config *, const char *section);
/* Sets section.key as if it stood where [at_section] at_key stands, or removes it
 * (value NULL).  Before the section is parsed.                                      */
void config_set(struct config *, const char *section, const char *key, const char *value,
                const char *at_section, const char *at_key);
/* Adds an error at a key's origin (or the section's, or the file's).           */
void config_error(struct config *, const char *section, const char *key,
                  const char *fmt, ...) CHI_PRINTF(4, 5);
/* The same for a call that failed with this status and fail_text(), such as the search for a
 * component that no plugin has.                                                 */
void config_failed(struct config *, const char *section, const char *key, chi_status);
int64_t config_errors(const struct config *);          /* how many so far        */
/* Reports unknown sections and keys with suggestions, then fails with all errors in
 * fail_text() (several lines): CHI_ECONF, or the status that all of them share.                            */
chi_status config_finish(struct config *) CHI_MUST_CHECK;

/* The resolved configuration as a valid INI: every section that was parsed, every
 * option with its value; origins as comments if asked ("; base.ini:7", "default",
 * "command line").  The same text without origins is what runs store and what
 * config_hash() is of.                                                         */
void     config_print(const struct config *, FILE *, bool origins);
uint64_t config_hash(const struct config *);
/* From now on an option that was parsed prints this text                       */
void     config_show(struct config *, const char *section, const char *key, const char *text);
/* Options with CHI_OPT_SHAPE of all parsed sections, as "section.key = value\n"
 * lines: what checkpoints store and compare.  Caller frees.                    */
char    *config_shape_text(const struct config *);
/* Of such a line: has its option the value that it has where nobody says anything?   */
bool config_is_default(const struct config *, const char *line);

/* Prints documentation, value and origin of "section.key" among what was parsed   */
chi_status config_explain(const struct config *, const char *key, FILE *) CHI_MUST_CHECK;

/* One option's documentation, as inspect, man page and errors show it          */
void option_print(const struct chi_option *, FILE *);
const char *option_type_name(const struct chi_option *);   /* "int", "enum", ... */
/* Parses text by the option's type and range into the field; false: *why holds a
 * malloc'ed reason such as "must be 1..256 (number of heads; default 40)".     */
bool option_set(const struct chi_option *, const char *text, const char *base_dir,
                struct config *owner, void *conf, char **why);

#endif
