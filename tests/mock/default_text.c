/* default_text.c - the default of a number is no number. */
#include "mock.h"

MOCK_OPS;
static const struct chi_option options[] = {
    CHI_FLOAT(struct mock_conf, rate, "fast", 0, 1, "how fast it is", 0),
    CHI_OPTIONS_END
};
static const struct chi_component layer =
    MOCK_LAYER("default_text", .options = options, .conf_size = sizeof(struct mock_conf));
MOCK_NAMED("default_text", &layer);
