/* dialect.h - one INI text to events; the dialect alone, without meaning.           */
#ifndef DIALECT_H
#define DIALECT_H

#include <chimera/base.h>

enum {
    INI_NAME_MAX = 49,                  /* libinih cuts longer names in silence  */
    INI_LINE_MAX = 64 << 10,
    INI_FILE_MAX = 4 << 20
};

struct ini_events {                     /* lines count from 1                    */
    void *to;
    void (*section)(void *to, const char *name, int line);
    void (*pair)(void *to, const char *section, const char *key,
                 const char *value, int line);
    void (*error)(void *to, int line, const char *text);
};

void ini_read(const char *text, size_t n, const struct ini_events *);

/* The text as a value that reads back as itself: bare if it can be, else quoted.
 * Caller frees.                                                                */
char *ini_quote(const char *);
bool  utf8_valid(const char *, size_t n);
/* A copy for messages: at most ~60 bytes, control characters and invalid bytes
 * replaced.  Caller frees.                                                     */
char *shown(const char *);
/* Is c one that section and key names are made of?                             */
bool  ini_name_char(char c);

#endif
