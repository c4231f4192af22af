/* not_ascii.c - a text that not every terminal shows. */
#define NAME not_ascii
#define SUMMARY "a r\303\251sum\303\251 of the past"
#include "healthy.h"
