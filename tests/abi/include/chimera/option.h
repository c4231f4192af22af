/* chimera/option.h - a component's options as one typed, documented table.
 *
 * The core parses an INI section straight into the component's own struct, so
 * its code just reads conf->num_heads.  The same table drives error messages,
 * `chimera inspect`, `chimera config` and the manual page.  Defaults are text
 * and go through the very parser that reads the file.                         */
#ifndef CHIMERA_OPTION_H
#define CHIMERA_OPTION_H

#include "base.h"

enum {                      /* type             field in the conf struct       */
    CHI_OPT_END = 0,
    CHI_OPT_INT,            /* 42, 4k, 2M       int64_t; k, M, G = 10^3, 6, 9  */
    CHI_OPT_FLOAT,          /* 3e-4             double                         */
    CHI_OPT_BOOL,           /* yes | no         bool                           */
    CHI_OPT_ENUM,           /* one of choices   int32_t: its index             */
    CHI_OPT_STRING,         /* text             const char *, the core's       */
    CHI_OPT_PATH,           /* a path, relative to the INI file that says it;
                               on the command line, to the current directory   */
    CHI_OPT_LIST,           /* 1, 2, 4-8        struct chi_list                */
    CHI_OPT_REF             /* a component      const char *; choices = kind   */
};

enum {
    CHI_OPT_REQUIRED   = 1 << 0,    /* there is no default                     */
    CHI_OPT_SHAPE      = 1 << 1,    /* decides parameter shapes or meaning: kept
                                       in checkpoints and compared on loading  */
    CHI_OPT_RUNTIME    = 1 << 2,    /* may differ between training and use     */
    CHI_OPT_DEPRECATED = 1 << 3     /* accepted with a warning; doc says why   */
};

struct chi_list { const double *v; size_t n; };     /* the core's; n may be 0      */

struct chi_option {
    const char *name;
    int32_t     type;
    uint32_t    offset;             /* of the field in the conf struct         */
    const char *fallback;           /* the default, as text                    */
    double      min, max;           /* inclusive; of list items, too           */
    const char *choices;            /* "none|l2", or a kind for CHI_OPT_REF    */
    const char *doc;                /* one sentence without a final stop       */
    uint32_t    flags;
};

/* offsetof() that does not compile when the field has another C type. */
#define CHI_FIELD(T, f, ctype)                                                \
    (uint32_t)(offsetof(T, f)                                                 \
        + 0 * sizeof(char[_Generic(((T *)0)->f, ctype: 1, default: -1)]))

#define CHI_INT(T, f, dflt, lo, hi, doc, fl)                                  \
    { #f, CHI_OPT_INT,    CHI_FIELD(T, f, int64_t), dflt, lo, hi, NULL, doc, fl }
#define CHI_FLOAT(T, f, dflt, lo, hi, doc, fl)                                \
    { #f, CHI_OPT_FLOAT,  CHI_FIELD(T, f, double), dflt, lo, hi, NULL, doc, fl }
#define CHI_BOOL(T, f, dflt, doc, fl)                                         \
    { #f, CHI_OPT_BOOL,   CHI_FIELD(T, f, bool), dflt, 0, 1, NULL, doc, fl }
#define CHI_ENUM(T, f, dflt, among, doc, fl)                                  \
    { #f, CHI_OPT_ENUM,   CHI_FIELD(T, f, int32_t), dflt, 0, 0, among, doc, fl }
#define CHI_STRING(T, f, dflt, doc, fl)                                       \
    { #f, CHI_OPT_STRING, CHI_FIELD(T, f, const char *), dflt, 0, 0, NULL, doc, fl }
#define CHI_PATH(T, f, dflt, doc, fl)                                         \
    { #f, CHI_OPT_PATH,   CHI_FIELD(T, f, const char *), dflt, 0, 0, NULL, doc, fl }
#define CHI_LIST(T, f, dflt, lo, hi, doc, fl)                                 \
    { #f, CHI_OPT_LIST,   CHI_FIELD(T, f, struct chi_list), dflt, lo, hi, NULL, doc, fl }
#define CHI_REF(T, f, dflt, kind, doc, fl)                                    \
    { #f, CHI_OPT_REF,    CHI_FIELD(T, f, const char *), dflt, 0, 0, kind, doc, fl }
#define CHI_OPTIONS_END { NULL, CHI_OPT_END, 0, NULL, 0, 0, NULL, NULL, 0 }

#endif
