/* duplicate_option.c - two options have the same name. */
#include "mock.h"

MOCK_OPS;
static const struct chi_option options[] = {
    CHI_INT(struct mock_conf, width, "8", 1, 64, "how wide it is", 0),
    CHI_INT(struct mock_conf, width, "9", 1, 64, "how wide it is again", 0),
    CHI_OPTIONS_END
};
static const struct chi_component layer =
    MOCK_LAYER("duplicate_option", .options = options, .conf_size = sizeof(struct mock_conf));
MOCK_NAMED("duplicate_option", &layer);
