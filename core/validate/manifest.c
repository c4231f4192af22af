/* manifest.c - checks of the plugin file. */
#include "validate.h"

static void manifest(struct trial *t)
{
    (void)t;
}

const struct check checks_manifest[] = {
    { "manifest", 0, 10, "the head of the file, its names, texts, tables and defaults", manifest },
    { 0 }
};
