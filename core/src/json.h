/* json.h - strict reading and plain writing of JSON around libcjson.
 *
 * libcjson is lenient: it keeps duplicate keys, ignores what follows the value, turns
 * every number into a double.  json_parse() refuses what would be read in two ways;
 * json_int() hands out exact integers only.                                      */
#ifndef JSON_H
#define JSON_H

#include <chimera/base.h>
#include <cjson/cJSON.h>
#include <stdio.h>

/* One value and nothing but blanks behind it; no NUL byte, valid UTF-8, no deeper
 * than max_depth, no key twice in an object.  name stands for the file in messages,
 * which are CHI_EDATA.  text need not end with NUL.  cJSON_Delete() the result.  */
chi_status json_parse(const char *name, const char *text, int64_t n, int max_depth,
                      cJSON **) CHI_MUST_CHECK;
/* An integer 0 .. 2^53 - 1                                                       */
bool json_int(const cJSON *, int64_t *);
/* The string at a key, or NULL                                                   */
const char *json_text(const cJSON *, const char *key);
void json_quote(FILE *, const char *text);        /* "text" with escapes            */

#endif
