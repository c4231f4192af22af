/* reads_past.c - an axpy that reads x in pieces of four.                                        */
#define NAME "reads_past"
#define AXPY_READS(n) (((n) + 3) / 4 * 4)
#include "vectors.h"
