/* waits.c - sleeps in forward for as long as it is let. */
#include <unistd.h>
#define NAME waits
#define FORWARD pause();
#include "healthy.h"
