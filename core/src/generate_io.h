/* generate_io.h - what chimera generate reads and writes: prompts of flags and files, and the text or the JSON
 * lines that come of them.                                                        */
#ifndef GENERATE_IO_H
#define GENERATE_IO_H

#include "generate.h"

struct text {                           /* bytes that were let out                 */
    char   *b;
    int64_t n, room;
};
chi_status text_add(void *text, const char *bytes, int64_t n);
void       text_say(struct text *, const char *);
/* {"index":0,"stream":0,"prompt":"...","text":"...","tokens":20,"end":"length"}, and with ids
 * "prompt_ids":[...],"ids":[...]                                                  */
chi_status completion_line(struct text *to, int64_t index, const struct prompt *, const struct completion *,
                           const struct text *) CHI_MUST_CHECK;
/* ==> 3: the first bytes of the prompt <== and the text                          */
chi_status completion_block(struct text *to, int64_t index, const struct prompt *,
                            const struct text *) CHI_MUST_CHECK;

struct prompts { struct prompt *v; int64_t n; };
void       prompts_add(struct prompts *, const void *text, int64_t n);
/* Its text is the ids, too, each with a blank before the next.  May be none: a session goes on as it is */
chi_status prompts_add_ids(struct prompts *, const char *list, bool may_be_none) CHI_MUST_CHECK;
/* path "-": stdin.  lines: each of them is a prompt                              */
chi_status prompts_add_file(struct prompts *, const char *path, bool lines) CHI_MUST_CHECK;
void       prompts_free(struct prompts *);

/* A file that a flag names must be there, before a model is loaded for it          */
chi_status named_file(const char *flag, const char *path, const char *wanted) CHI_MUST_CHECK;

#endif
