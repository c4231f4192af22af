/* default_range.c - the default of an option lies outside of its range. */
#include "mock.h"

MOCK_OPS;
static const struct chi_option options[] = {
    CHI_INT(struct mock_conf, width, "100", 1, 64, "how wide it is", CHI_OPT_REQUIRED),
    CHI_OPTIONS_END
};
static const struct chi_component layer =
    MOCK_LAYER("default_range", .options = options, .conf_size = sizeof(struct mock_conf));
MOCK_NAMED("default_range", &layer);
