/* encoding_gap.c - an encoding that leaves the padding of a row as it was.                     */
#define NAME "encoding_gap"
#define PAD(cols) row_bytes(cols)
#include "rowwise.h"
