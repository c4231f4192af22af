/* wrong_tree.c - tree() takes a node's row for its depth. */
#define SIN WRONG_TREE
#include "mixer.h"
MIXER(wrong_tree);
