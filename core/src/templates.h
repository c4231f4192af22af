/* templates.h - the files of core/templates, compiled in, so that `chimera new` works wherever the
 * program was put.  Lines end in \n; @name@ and the like stand where `chimera new` fills in.    */
#ifndef TEMPLATES_H
#define TEMPLATES_H

struct template { const char *file; const char *const *line; };     /* lines end with NULL       */
extern const struct template templates[];                           /* end: file is NULL         */

#endif
