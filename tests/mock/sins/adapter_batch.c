/* adapter_batch.c - an adapter that sees the last row of a call for every row. */
#define NAME "adapter_batch"
#define ROW(r, n) ((n) - 1)
#include "diagonal.h"
