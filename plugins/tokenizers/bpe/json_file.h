/* json_file.h - a tokenizer.json: its values, refusals that name the file, its pre-tokenizers.      */
#ifndef BPE_JSON_FILE_H
#define BPE_JSON_FILE_H

#include "encoder.h"

struct json_file {
    const struct chi_host *h;
    const char *name;
    int64_t n;                              /* bytes                                              */
    const struct chi_json_value *root;
};

chi_status json_open(struct json_file *, const struct chi_host *, const char *path) CHI_MUST_CHECK;
chi_status json_refuse(const struct json_file *, const char *fmt, ...) CHI_PRINTF(2, 3);
/* A member of an object, or NULL                                                                  */
const struct chi_json_value *json_member(const struct chi_json_value *, const char *key);
bool json_yes(const struct chi_json_value *, const char *key);      /* it is there and true         */
/* Its member "type", or "without a type"                                                           */
const char *json_type(const struct chi_json_value *);
bool json_is(const struct chi_json_value *, const char *type);
/* The steps that pre_tokenizer asks for                                                            */
chi_status json_steps(const struct json_file *, struct encoder *) CHI_MUST_CHECK;

#endif
