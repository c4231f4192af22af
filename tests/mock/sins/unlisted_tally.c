/* unlisted_tally.c - counts under a name that its component does not list. */
#define NAME unlisted_tally
#define FORWARD \
    const struct chi_tally *tally = r->h->service(r->h, "chimera.tally/1"); \
    tally->add(r->h, "surprise", (const int64_t[]){ 1 }, 1);
#include "healthy.h"
