/* tally.h - counts that layers keep during a measurement on held-out data (struct chi_tally).  */
#ifndef TALLY_H
#define TALLY_H

#include "spec.h"

extern const struct chi_tally tally_service;        /* "chimera.tally/1"                 */

void tally_begin(void);             /* all sums are zero, and from here on counts are added */
void tally_end(void);               /* no longer; the sums stay until the next begin     */

/* Largest / mean - 1 of an instance's sums, mean over the instances that gave a count under the
 * name; i from 0, in order of first appearance; false ends.  An instance with nothing counted
 * is left out.                                                                         */
bool tally_value(int64_t i, const char **name, double *value);

void tally_forget(const char *instance);            /* it closes                         */

#endif
