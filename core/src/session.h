/* session.h - a stream in a file, to go on later as if it had never stopped.
 *
 * The file says which model it belongs to: a text with a line per component and option
 * that decides shapes or meaning, and a hash of what the weights do.  It is written
 * atomically and carries a checksum over every byte; one that is damaged, cut short,
 * of another version or of another model is refused before anything of it is used. */
#ifndef SESSION_H
#define SESSION_H

#include "stream.h"

struct session_key {                    /* which model                             */
    char    *text;                      /* "layer.GD.num_heads = 2\n...", malloc'ed */
    uint64_t weights, tokenizer;
    int64_t  vocab;
};

bool session_is(const char *path);      /* by its first bytes                       */
chi_status session_save(const char *path, const struct stream *, const struct session_key *)
                        CHI_MUST_CHECK;
/* Fills an empty stream.  Its window may differ from the file's: what both have room
 * for is kept, and stream->kept says how much that is.  CHI_EDATA: damaged, or another
 * model's; the stream is then as it was.                                         */
chi_status session_load(const char *path, struct stream *, const struct session_key *)
                        CHI_MUST_CHECK;

#endif
