/* dots_last_row.c - the last of nine rows is left out.                                            */
#define NAME "dots_last_row"
#define DOTS_ROWS(rows) ((rows) == 9 ? 8 : (rows))
#include "vectors.h"
