/* lost_order.c - a quantizer that exchanges two of its numbers, 3 and 4. */
#define NAME "lost_order"
#define SWAP(q) ((q) == 3 ? 4 : (q) == 4 ? 3 : (q))
#define ROUND(x) ((x) < 0 ? (x) - 0.5f : SWAP((int)((x) + 0.5f)))
#include "coarse.h"
