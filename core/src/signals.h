/* signals.h - SIGINT, SIGTERM and SIGUSR1 ask a run to save and stop; a second one of
 * them ends the program at once with exit code 128 + its number.  Until they are released
 * a write to a pipe that nobody reads any more fails and ends nothing.               */
#ifndef SIGNALS_H
#define SIGNALS_H

#include <chimera/base.h>

void signals_catch(void);
void signals_release(void);
int  signals_pending(void);             /* the number of the signal that came; or 0   */
chi_status signals_stop(void) CHI_MUST_CHECK;      /* CHI_EREFUSED if one came        */
const char *signals_name(int number);   /* "SIGTERM"                                  */

#endif
